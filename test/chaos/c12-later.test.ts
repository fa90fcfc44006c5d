/** C-12: wrong results (security §4.3), found by the self-test at regular times; repeated IVs are refused. */

import { runAll } from './run.ts';
import { SCENARIOS } from './scenarios.ts';

runAll(SCENARIOS.laterResults);
