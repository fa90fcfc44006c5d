/** Names and versions in paths; the door has checked their form. */

import type { WireRequest } from '../door.ts';

export interface NamedVersion {
  readonly name: string;
  /** Null for the newest. */
  readonly versionId: string | null;
}

export function addressOf({ params }: WireRequest): NamedVersion {
  return { name: params['name'] ?? '', versionId: params['version']?.toLowerCase() ?? null };
}
