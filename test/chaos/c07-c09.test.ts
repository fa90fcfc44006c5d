/** C-7 to C-9: a restarted HSM, no memory, a wrong PIN (security §4.3). */

import { runAll } from './run.ts';
import { SCENARIOS } from './scenarios.ts';

runAll(SCENARIOS.states);
