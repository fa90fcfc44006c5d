/**
 * A server process, started by the supervisor. The last step of every end is SIGKILL when a token thread is
 * stuck: neither `process.exit` nor ending a thread returns then.
 */

import type { Socket } from 'node:net';
import { App } from '../app.ts';
import { loadConfig } from '../config.ts';
import { KmsError } from '../errors.ts';
import { DRAIN_DEADLINE_MS, type ToProcess, type ToSupervisor } from './protocol.ts';
import { TurnClient } from './turn-client.ts';

function tell(message: ToSupervisor): void {
  // The channel closes when the supervisor dies; that is noticed by `disconnect`.
  if (process.connected) process.send?.(message);
}

const turns = new TurnClient(tell);

function kill(): void {
  process.kill(process.pid, 'SIGKILL');
}

async function begin(): Promise<void> {
  const config = loadConfig(process.env);
  const app = await App.start(config, {
    lost: (reason) => { tell({ kind: 'replace', reason }); },
    waiting: () => {
      turns.over('login');
      tell({ kind: 'waiting' });
    },
    loggedIn: () => { turns.over('login'); },
    mayLogin: () => turns.ask('login'),
    exclusively: (run) => turns.change(run),
  });
  let ending: Promise<void> | undefined;
  const end = (): void => { ending ??= drain(app); };
  process.on('message', (message: ToProcess, socket?: Socket) => { receive(app, message, socket, end); });
  process.on('disconnect', end);
  // The supervisor gets the same signal from the terminal and decides.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => undefined);
  process.on('uncaughtException', (err) => {
    app.logger.fatal({ err }, 'uncaught exception');
    void app.logger.flush().finally(kill);
  });
  tell({ kind: 'listening' });
  app.whenReady().then(() => { tell({ kind: 'ready', installation: app.kind }); }, () => undefined);
}

function receive(app: App, message: ToProcess, socket: Socket | undefined, end: () => void): void {
  switch (message.kind) {
    case 'socket':
      tell({ kind: 'took', id: message.id });
      // Undefined when the client left while its connection was handed over.
      if (socket !== undefined) app.accept(message.port, socket);
      return;
    case 'drain':
      end();
      return;
    case 'turn':
      turns.granted(message.what);
      return;
    case 'self-test':
      void app.selfTest();
      return;
    case 'record':
      app.record(message.event, message.detail).catch((err: unknown) => { app.logger.warn({ err }, 'event not recorded'); });
      return;
    case 'metrics':
      void app.metrics.snapshot().then((snapshot) => { tell({ kind: 'metrics', id: message.id, snapshot }); });
  }
}

async function drain(app: App): Promise<void> {
  const result = await app.drain(DRAIN_DEADLINE_MS);
  tell({ kind: 'drained' });
  if (result === 'stuck') kill();
  process.exit(0);
}

export async function start(): Promise<void> {
  try {
    await begin();
  } catch (error) {
    tell({ kind: 'fatal', message: error instanceof KmsError ? error.message : String(error) });
    setImmediate(() => process.exit(1));
  }
}
