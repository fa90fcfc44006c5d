import { sharedPostgres } from '../support/postgres.ts';
import { killAtRandom } from './kill9.ts';

killAtRandom('PostgreSQL', async () => ({ KMS_STORE_URL: await sharedPostgres().createDatabase() }));
