/** Keep-alive clients that ask without a pause until they are told to stop, and keep every exchange. */

import { setTimeout as sleep } from 'node:timers/promises';
import { auditRecords, processOf } from './audit-records.ts';
import type { Installation } from './installation.ts';
import { type Exchange, Wire } from './wire.ts';

export interface Step {
  readonly method: string;
  readonly path: string;
  readonly body?: object;
}

export class Caller {
  readonly wire: Wire;
  readonly exchanges: Exchange[] = [];
  #stopping = false;
  #running: Promise<void> | undefined;

  constructor(kms: Installation) {
    this.wire = new Wire(kms);
  }

  async ask({ method, path, body }: Step): Promise<Exchange> {
    const exchange = await this.wire.call(method, path, body);
    this.exchanges.push(exchange);
    return exchange;
  }

  /** @param step the n-th request */
  start(step: (n: number) => Step): void {
    this.#stopping = false;
    this.#running = (async () => {
      for (let n = 0; !this.#stopping; n += 1) {
        const { failure } = await this.ask(step(n));
        if (failure !== undefined) await sleep(20);
      }
    })();
  }

  /** After the answer to what is on its way. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  async end(): Promise<void> {
    await this.stop();
    this.wire.close();
  }
}

/** The process that serves each caller now, from the audit records of one request each. */
export async function servedBy(kms: Installation, callers: readonly Caller[], step: Step): Promise<readonly number[]> {
  const asked = await Promise.all(callers.map((caller) => caller.ask(step)));
  const processes = processOf(auditRecords(kms));
  return asked.map(({ id, status, text, failure }) => {
    const pid = processes.get(id);
    if (pid === undefined) throw new Error(`no record of ${id}: ${status} ${text} ${failure ?? ''}`);
    return pid;
  });
}
