/**
 * What the audit keeps of the making of a key version, so that it can be rebuilt when its rows are lost with a store
 * that was rolled back (integrity §6). Ids, kinds and sizes only: label and context are the tenant's, and are lost.
 */

import type { AuditEvent, AuditRecord } from '../audit/record.ts';
import type { KeyShape, PlannedObject } from '../crypto/engine.ts';
import { FAMILIES } from '../store/store.ts';
import type { Curve, Family, Key, KeyVersion, Kind, Usage } from './key.ts';

export interface Making {
  readonly ordinal: number;
  readonly versionId: string;
  readonly shape: KeyShape;
  readonly origin: Key['origin'];
  readonly backupClass: Key['backupClass'];
  readonly objects: readonly PlannedObject[];
  /** Of the record, by the clock of its host. */
  readonly atMs: number;
}

type Detail = NonNullable<AuditEvent['detail']>;

export function makingDetail(key: Key, { id, objects, madeFor }: KeyVersion): Detail {
  return {
    versionId: id,
    kind: key.kind,
    name: key.name,
    usages: madeFor.join(' '),
    origin: key.origin,
    backupClass: key.backupClass,
    objects: objects.map(({ family, objectId }) => `${family}:${objectId}`).join(' '),
  };
}

const KINDS: ReadonlySet<string> = new Set<Kind>(['oct', 'RSA', 'EC']);
const KNOWN: ReadonlySet<string> = new Set(FAMILIES);
const HEX = /^[0-9a-f]{32}$/;

/** @param record of a create or rotate that succeeded @returns undefined when it lacks what is needed */
export function readMaking({ wall, version, algorithm, bits, detail = {} }: AuditRecord): Making | undefined {
  const { versionId, kind, usages, origin, backupClass, objects } = detail;
  const texts = [versionId, kind, usages, origin, backupClass, objects];
  if (typeof version !== 'number' || !texts.every((text) => typeof text === 'string') || !KINDS.has(String(kind))) return undefined;
  const planned = String(objects).split(' ').map((text) => {
    const [family = '', objectId = ''] = text.split(':');
    return { family: family as Family, objectId };
  });
  if (!HEX.test(String(versionId)) || !planned.every(({ family, objectId }) => KNOWN.has(family) && HEX.test(objectId))) return undefined;
  const shape = {
    kind: kind as Kind,
    bits: bits ?? null,
    curve: kind === 'EC' ? (algorithm as Curve) : null,
    usages: String(usages).split(' ') as Usage[],
  };
  return {
    ...{ ordinal: version, versionId: String(versionId), shape, objects: planned, atMs: wall },
    ...{ origin: origin as Key['origin'], backupClass: backupClass as Key['backupClass'] },
  };
}
