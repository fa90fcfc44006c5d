/** What tests with the shim stand on: a temporary SoftHSM token, and a child process that makes PKCS#11 calls. */

import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';

export const SOFTHSM = '/usr/lib/softhsm/libsofthsm2.so';
export const PIN = 'user-pin-1';

/** A SoftHSM token of its own; `configuration` is for SOFTHSM2_CONF. */
export class TestToken {
  readonly directory = mkdtempSync(join(tmpdir(), 'kms-fault-'));
  readonly configuration = join(this.directory, 'softhsm2.conf');

  constructor() {
    mkdirSync(join(this.directory, 'tokens'));
    const lines = [`directories.tokendir = ${this.directory}/tokens`, 'objectstore.backend = file', 'log.level = ERROR'];
    writeFileSync(this.configuration, `${lines.join('\n')}\n`);
    const pins = ['--so-pin', 'so-pin-1', '--pin', PIN];
    execFileSync('softhsm2-util', ['--init-token', '--free', '--label', 'fault', ...pins], {
      env: { PATH: process.env['PATH'], SOFTHSM2_CONF: this.configuration },
    });
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** What became of one step; `code` is the CKR number of a failed one. */
export interface Outcome {
  readonly value?: unknown;
  readonly code?: number;
  readonly message?: string;
  readonly milliseconds: number;
}

/** A child that runs the steps of `child.mjs`, one at a time. */
export class Child {
  readonly #child: ChildProcess;
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  #tail: Promise<unknown> = Promise.resolve();

  /** @param module to load; it is not initialised yet */
  constructor(module: string, environment: Readonly<Record<string, string>>) {
    this.#child = fork(join(import.meta.dirname, 'child.mjs'), [module], {
      serialization: 'advanced',
      execArgv: [],
      env: { PATH: process.env['PATH'], ...environment },
    });
    this.ended = once(this.#child, 'exit').then(([code, signal]) => (code ?? signal) as number | string);
  }

  /** Its answer, also when the step fails; rejects when the child ends instead. */
  outcome(step: string, ...values: readonly unknown[]): Promise<Outcome> {
    const answer = this.#tail.then(async () => {
      this.#child.send([step, ...values]);
      const gone = this.ended.then((end) => { throw new Error(`the child ended with ${end} in ${step}`); });
      const [message] = (await Promise.race([once(this.#child, 'message'), gone])) as [Outcome];
      return message;
    });
    this.#tail = answer.catch(() => undefined);
    return answer;
  }

  /** The value of a step that must succeed. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- steps answer in every shape
  async run(step: string, ...values: readonly unknown[]): Promise<any> {
    const { value, code, message } = await this.outcome(step, ...values);
    if (message !== undefined) throw new Error(`${step}: ${message} (${String(code)})`);
    return value;
  }

  /** The CKR number of a step; 0 for success. */
  async code(step: string, ...values: readonly unknown[]): Promise<number> {
    return (await this.outcome(step, ...values)).code ?? 0;
  }

  kill(): Promise<number | string> {
    this.#child.kill('SIGKILL');
    return this.ended;
  }
}
