/** Every migration, in order, and the comparison of a database with them. Forward only. */

import { Migrator, type Kysely, type Migration } from 'kysely';
import { unavailable } from '../engine.ts';
import type { Schema } from '../schema.ts';
import { initial, type BytesType } from './0001-sealed.ts';
import { keyVault } from './0002-key-vault.ts';

/** Names sort in the order of the list; a name once released is never changed. */
function migrations(bytes: BytesType): Record<string, Migration> {
  return { '0001-sealed': initial(bytes), '0002-key-vault': keyVault(bytes) };
}

const KNOWN = Object.keys(migrations('blob'));
const TABLE = 'kysely_migration';
/** Of builds before the first release, whose rows carry no seals: no code seals a row it finds unsealed. */
const BEFORE_SEALS = '0001-initial';

/**
 * Brings the database to this code's schema, each step in a transaction.
 *
 * @throws KmsError `store-unavailable` when the schema is newer, or a step failed; what the driver throws otherwise
 */
export async function migrate(db: Kysely<Schema>, bytes: BytesType): Promise<void> {
  refuseNewer(await applied(db));
  const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve(migrations(bytes)) } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw unavailable('the migration failed and was rolled back', error);
}

/** @throws KmsError `store-unavailable` when the schema is older or newer than this code's */
export async function checkSchema(db: Kysely<Schema>): Promise<void> {
  const names = await applied(db);
  refuseNewer(names);
  const missing = KNOWN.filter((name) => !names.includes(name));
  if (missing.length === 0) return;
  throw unavailable(`the database schema is older than this program; it lacks ${missing.join(', ')}: run \`kms migrate\``);
}

function refuseNewer(names: readonly string[]): void {
  if (names.includes(BEFORE_SEALS)) throw unavailable('the store was made by a pre-release, start with an empty KMS_HOME');
  const unknown = names.filter((name) => !KNOWN.includes(name));
  if (unknown.length === 0) return;
  throw unavailable(`the database schema is newer than this program, which does not know ${unknown.join(', ')}`);
}

async function applied(db: Kysely<Schema>): Promise<string[]> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some((table) => table.name === TABLE)) return [];
  const rows = await db.withTables<{ [TABLE]: { name: string } }>().selectFrom(TABLE).select('name').execute();
  return rows.map((row) => row.name);
}
