/** Where a kill fell, from what store and audit hold right after it. */

import type { Installation } from '../support/installation.ts';
import { auditStream } from './audit-lines.ts';
import type { Exchange } from './ledger.ts';
import { rowsOf } from './store-sql.ts';

/** The first that fits one of the steps in flight names the kill. */
export const PHASES = [
  'destroying', // tombstone committed, objects not proved gone
  'announced', // between announcement and commit of a creation or rotation: the token is at work
  'committed, not recorded', // in the store, and not in the audit
  'recorded, not answered',
  'before the first commit',
  'using a key',
  'idle',
  'starting',
] as const;
export type Phase = (typeof PHASES)[number];

const USES: ReadonlySet<string> = new Set(['encrypt', 'decrypt', 'sign', 'get']);

/** @param open what the killed process had begun and not answered @param boot undefined when it was not enrolled yet */
export async function phasesOf(kms: Installation, boot: string | undefined, open: readonly Exchange[]): Promise<readonly Phase[]> {
  if (open.length === 0 || boot === undefined) return ['idle'];
  const names = open.map(({ step }) => `'${step.id}'`).join(', ');
  const journaled = new Set((await rowsOf(kms, `select request_id from journal where request_id in (${names})`)).map(({ request_id }) => request_id));
  const announced = await rowsOf(kms, `
    select j.request_id, i.action from journal j join intent i on i.id = j.pk where j.tbl = 'intent' and j.request_id in (${names})`);
  const intents = new Map(announced.map(({ request_id, action }) => [request_id, action]));
  const recorded = new Set(auditStream(kms, boot)?.lines.map(({ requestId }) => requestId));
  return open.map(({ step: { id, act } }): Phase => {
    if (recorded.has(id)) return 'recorded, not answered';
    if (intents.get(id) === 'destroy') return 'destroying';
    if (intents.has(id)) return 'announced';
    if (journaled.has(id)) return 'committed, not recorded';
    return USES.has(act) ? 'using a key' : 'before the first commit';
  });
}

export function deepest(phases: readonly Phase[]): Phase {
  return PHASES.find((phase) => phases.includes(phase)) ?? 'idle';
}
