/** Every family of token objects, as rows and records name them. */

import type { Family } from '../keys/key.ts';

/** A family that is added does not compile until it stands here. */
const ALL: Readonly<Record<Family, true>> = {
  gcm: true, dk: true, cbc: true, kw: true, mac: true, private: true, public: true, 'public-only': true,
};

export const FAMILIES = Object.keys(ALL) as readonly Family[];
