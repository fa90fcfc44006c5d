/** C-10, C-11: a slow HSM, and one that never answers (security §4.3). */

import { runAll } from './run.ts';
import { SCENARIOS } from './scenarios.ts';

runAll(SCENARIOS.time);
