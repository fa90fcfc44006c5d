import { killAtRandom } from './kill9.ts';

killAtRandom('SQLite', () => Promise.resolve({}));
