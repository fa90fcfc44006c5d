/** The log: one line of JSON per event, on standard error. What must not be in it is decided in `redact.ts` (S-28). */

import { pino } from 'pino';

import { redactFields, redactText } from './redact.ts';

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;

export type LogLevel = (typeof LEVELS)[number];

/** No format arguments: what is logged is a text, and members with names. An error goes into the member `err`. */
type Write = (...line: readonly [fields: object, message: string] | readonly [message: string]) => void;

export interface Logger extends Readonly<Record<LogLevel, Write>> {
  /** A logger that adds `fields` to every line. */
  child(fields: object): Logger;
  /**
   * Resolves when every line so far is with the operating system, or after 500 ms: to be awaited before SIGKILL. Never
   * rejects.
   */
  flush(): Promise<void>;
}

export interface LoggerOptions {
  readonly level: LogLevel | 'silent';
  /** Where lines go, each with its newline; by default file descriptor 2, written in the background. */
  readonly destination?: pino.DestinationStream;
  /** Members of every line, such as host, boot and process. */
  readonly base: object;
}

const STDERR = 2;
const FLUSH_MAX_MS = 500;

export function createLogger({ level, destination, base }: LoggerOptions): Logger {
  const options: pino.LoggerOptions = {
    level,
    base: redactFields(base),
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    // pino's own would look for an error in what is already described.
    serializers: { err: (described: unknown) => described },
  };
  return restrict(pino(options, destination ?? standardError()));
}

/**
 * Written in the background, so that a slow reader does not stop the event loop; at a normal exit pino writes what is
 * left by itself. With a minimum length of 0 its flush would call back at once.
 */
function standardError(): pino.DestinationStream {
  return pino.destination({ fd: STDERR, sync: false, minLength: 1 });
}

/** pino's formatters do not see the members of a child, and its children may switch redaction off: so it is wrapped. */
function restrict(target: pino.Logger): Logger {
  const writes = Object.fromEntries(LEVELS.map((level) => [level, writeAt(target, level)])) as Record<LogLevel, Write>;
  return {
    ...writes,
    child: (fields) => restrict(target.child(redactFields(fields))),
    flush: () =>
      new Promise((resolve) => {
        // A reader that is gone or stands still must not keep a process from ending.
        setTimeout(resolve, FLUSH_MAX_MS).unref();
        target.flush(() => resolve());
      }),
  };
}

function writeAt(target: pino.Logger, level: LogLevel): Write {
  return (...line) => {
    if (!target.isLevelEnabled(level)) return;
    const [fields, message] = line.length === 1 ? [{}, line[0]] : line;
    target[level](redactFields(fields), redactText(message));
  };
}
