/** C-3 to C-6: calls, slot, sessions and login fail (security §4.3). */

import { runAll } from './run.ts';
import { SCENARIOS } from './scenarios.ts';

runAll(SCENARIOS.calls);
