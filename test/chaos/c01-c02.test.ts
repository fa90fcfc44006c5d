/** C-1, C-2: the token is away, or another one (security §4.3). */

import { runAll } from './run.ts';
import { SCENARIOS } from './scenarios.ts';

runAll(SCENARIOS.tokens);
