/**
 * Two hosts of one installation: two homes on two ports, one PostgreSQL server of their own, which is stopped and
 * started, and one SoftHSM token.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse } from 'yaml';
import { Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';
import { query, TestPostgres } from '../support/postgres.ts';

const READY_MS = 120_000;

export class Pair {
  readonly postgres: TestPostgres;
  readonly url: string;
  readonly a: Installation;
  readonly b: Installation;

  private constructor(postgres: TestPostgres, url: string, a: Installation, b: Installation) {
    this.postgres = postgres;
    this.url = url;
    this.a = a;
    this.b = b;
  }

  /** Neither is started. @param settings of both hosts @param beforeJoining called when there is only host A */
  static async make(settings: NodeJS.ProcessEnv = {}, beforeJoining: (a: Installation) => void = () => undefined): Promise<Pair> {
    const postgres = await TestPostgres.start();
    const url = await postgres.createDatabase();
    const own = { KMS_SERVER_PROCESSES: '1', KMS_STORE_URL: url, ...settings };
    const a = await Installation.make(own);
    beforeJoining(a);
    return new Pair(postgres, url, a, await Installation.join(a, url, own));
  }

  get hosts(): readonly Installation[] {
    return [this.a, this.b];
  }

  async start(): Promise<void> {
    await this.a.start();
    await this.b.start();
  }

  /** Host B first: the token's directory is A's. */
  async remove(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.stop()));
    await this.b.remove();
    await this.a.remove();
    await this.postgres.remove();
  }

  rows(text: string, values: readonly unknown[] = []): Promise<readonly Record<string, unknown>[]> {
    return query(this.url, text, values);
  }

  /** Ends the connections on which a host's processes listen for changes. @returns how many there were */
  async cutListeners(host: Installation): Promise<number> {
    const cut = await this.rows(`
      select pg_terminate_backend(pid) from pg_stat_activity
      where (query like '%listen kms_head%' or query = 'select 1 as beat')
        and application_name in (select 'kms ' || boot_id from process where host_id = $1)`, [hostId(host)]);
    return cut.length;
  }
}

/** From its settings. */
export function hostId({ home }: Installation): string {
  return (parse(readFileSync(join(home, 'kms.yaml'), 'utf8')) as { hostId: string }).hostId;
}

/** What a newcomer is told; 0 when nobody listens. */
export async function readiness(host: Installation): Promise<number> {
  const client = host.client(null);
  try {
    const asked = client.get(`https://localhost:${host.publicPort}/readyz`).then(({ status }) => status);
    return await Promise.race([asked, sleep(10_000, 0, { ref: false })]);
  } catch {
    return 0;
  } finally {
    await client.close();
  }
}

export function ready(host: Installation, withinMs = READY_MS): Promise<void> {
  return eventually(`ready: ${host.home}`, async () => (await readiness(host)) === 200, withinMs);
}
