/** PostgreSQL databases of their own in the shared server, with two stores open on each. */

import { randomUUID } from 'node:crypto';
import { migratePostgres, openPostgresStore } from '../../src/store/postgres.ts';
import type { OpenedStores } from '../contract/store-contract.ts';
import { dropDatabase, sharedPostgres } from '../support/postgres.ts';

export interface PostgresStores extends OpenedStores {
  readonly url: string;
}

export async function openTwo(): Promise<PostgresStores> {
  const url = await sharedPostgres().createDatabase();
  await migratePostgres(url);
  const boots = [randomUUID(), randomUUID()] as const;
  const open = (bootId: string) => openPostgresStore({ url, bootId, staleMaxMs: 1_000 });
  const [a, b] = await Promise.all([open(boots[0]), open(boots[1])]);
  const dispose = async () => {
    await Promise.all([a.close(), b.close()]);
    await dropDatabase(url);
  };
  return { a, b, boots, url, dispose };
}
