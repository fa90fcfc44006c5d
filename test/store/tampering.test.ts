/** Every edit behind the store's back is noticed, refused, reported with its place, and hurts nothing else. */

import { tamperingSuite } from './tampering-suite.ts';
import { postgresGround, sqliteGround } from './behind.ts';

tamperingSuite('SQLite', sqliteGround);
tamperingSuite('PostgreSQL', postgresGround);
