/**
 * An installation to be attacked, on either database: prepared once, put back to what it was after each attack, and
 * observed as its clients, its operator and its auditor see it.
 */

import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Behind, type Contents } from '../store/behind.ts';
import type { SeenRecord } from '../support/audit-records.ts';
import { type Answer, type Client, Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';
import { dropDatabase, sharedPostgres } from '../support/postgres.ts';

export type Database = 'SQLite' | 'PostgreSQL';

export interface Verified {
  readonly exit: number;
  readonly text: string;
}

export class Field {
  readonly kms: Installation;
  readonly url: string | undefined;
  #behind: Behind;
  #client: Client | undefined;
  #contents: Contents = {};
  #started: Promise<unknown> = Promise.resolve();

  private constructor(kms: Installation, behind: Behind, url: string | undefined) {
    this.kms = kms;
    this.#behind = behind;
    this.url = url;
  }

  static async make(database: Database): Promise<Field> {
    // Segments are as long on disk when they are opened, and these are read and copied after each attack.
    const settings = { KMS_AUDIT_SEGMENT_BYTES: String(1024 * 1024) };
    if (database === 'SQLite') {
      const kms = await Installation.make(settings);
      return new Field(kms, Behind.sqlite(join(kms.home, 'kms.db')), undefined);
    }
    const url = await sharedPostgres().createDatabase();
    const kms = await Installation.make({ ...settings, KMS_STORE_URL: url });
    return new Field(kms, Behind.postgres(url), url);
  }

  get client(): Client {
    this.#client ??= this.kms.client();
    return this.#client;
  }

  get behind(): Behind {
    return this.#behind;
  }

  /** Lets go of the PostgreSQL database, so that it can be copied. */
  release(): Promise<void> {
    return this.#behind.close();
  }

  reach(): void {
    if (this.url !== undefined) this.#behind = Behind.postgres(this.url);
  }

  get contents(): Contents {
    return this.#contents;
  }

  /** Starts the server, which may never be ready. @param extra settings of this start */
  start(extra: NodeJS.ProcessEnv = {}): void {
    this.#started = this.kms.start(extra).catch(() => undefined);
  }

  async ready(): Promise<void> {
    await eventually('ready', async () => (await this.readiness())?.status === 200);
  }

  /** Undefined while nobody listens. */
  async readiness(): Promise<Answer | undefined> {
    return this.client.get(`https://localhost:${this.kms.publicPort}/readyz`).catch(() => undefined);
  }

  async stop(): Promise<void> {
    await this.#client?.close();
    this.#client = undefined;
    await this.kms.stop();
    await this.#started;
  }

  /** What is put back after each attack; the server is stopped. */
  async remember(): Promise<void> {
    // Without the duties of the process that has just ended: its successor would wait for a minute.
    this.#contents = { ...(await this.behind.contents()), duty: [] };
    await this.behind.restore(this.#contents);
    this.saveAudit('audit.saved');
  }

  saveAudit(name: string): void {
    cpSync(join(this.kms.home, 'audit'), join(this.kms.home, name), { recursive: true });
  }

  putAuditBack(name: string): void {
    rmSync(join(this.kms.home, 'audit'), { recursive: true, force: true });
    cpSync(join(this.kms.home, name), join(this.kms.home, 'audit'), { recursive: true });
  }

  async putBack(): Promise<void> {
    await this.stop();
    await this.behind.restore(this.#contents);
    this.putAuditBack('audit.saved');
  }

  /** Records of this start that speak of an integrity failure; waits until one says this. */
  async recorded(what: (record: SeenRecord) => boolean): Promise<SeenRecord> {
    let found: SeenRecord | undefined;
    await eventually('recorded', () => {
      found = this.#failures().find(what);
      return found !== undefined;
    });
    return found!;
  }

  /** Asked for often, among many records of other events, which are not worth reading. */
  #failures(): readonly SeenRecord[] {
    const lines = this.kms.auditText().filter((line) => line.includes('"integrity.failure"') && line.endsWith('}'));
    return lines.map((line) => JSON.parse(line) as SeenRecord).filter(({ event }) => event === 'integrity.failure');
  }

  async verifyAudit(): Promise<Verified> {
    return this.kms.command('audit', 'verify').then(
      ({ stdout, stderr }) => ({ exit: 0, text: stdout + stderr }),
      (failed: unknown) => {
        const { code, stdout, stderr } = failed as { code: number; stdout: string; stderr: string };
        return { exit: code, text: stdout + stderr };
      },
    );
  }

  async remove(): Promise<void> {
    await this.stop();
    await this.#behind.close();
    rmSync(this.kms.home, { recursive: true, force: true });
    if (this.url !== undefined) await dropDatabase(this.url);
  }
}
