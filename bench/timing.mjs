// make test-timing: what the time of an answer tells about foreign names (security S-11), and what ten thousand connections
// cost, and a healthy client beside them (S-17). Prints; ends with 0 when the aims are met.

import { connections } from './timing-connections.mjs';
import { names } from './timing-names.mjs';
import { installation } from './timing-installation.mjs';

const results = [await names(await installation()), await connections(await installation())];
const met = results.flat().every(({ ok }) => ok);
console.log(met ? 'all aims met' : 'NOT all aims met');
process.exit(met ? 0 : 1);
