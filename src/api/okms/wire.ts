/** OKMS JSON ↔ domain types. Pure. */

import type { z } from 'zod';
import { invalidField } from '../../errors.ts';
import type { Curve, Key, KeyState, Kind, Usage } from '../../keys/key.ts';
import { type KeyNames, type KeySpec, PLAIN_VERSION, type VersionSpec } from '../../keys/birth.ts';
import type { PublicJwk } from '../../keys/public-half.ts';
import { visibleState } from '../../keys/state.ts';
import { defaultUsages, isPublicOnly, possibleUsages } from '../../keys/usage.ts';
import type { ServiceKey } from './reply-schema.ts';
import type { createBody, keyState } from './schema.ts';

type CreateBody = z.infer<typeof createBody>;

const SIZES: Readonly<Record<'oct' | 'RSA', readonly number[]>> = { oct: [128, 192, 256], RSA: [2048, 3072, 4096] };
const CURVES: readonly Curve[] = ['P-256', 'P-384', 'P-521'];

/** @throws KmsError `invalid-field` naming the member */
export function toKeySpec(body: CreateBody): KeySpec {
  const { type } = body;
  if (type === null || type === undefined) throw invalidField('type', 'expected one of oct, RSA, EC');
  return {
    ...toKeyNames(body),
    kind: type,
    bits: type === 'EC' ? noSize(body) : sizeOf(body, type),
    curve: type === 'EC' ? curveOf(body) : noCurve(body),
    usages: usagesOf(body, type),
  };
}

export function toKeyNames({ id, name, context }: CreateBody): KeyNames & VersionSpec {
  return { id: id?.toLowerCase() ?? null, name: null, namedHsm: true, label: name, context: context ?? null, ...PLAIN_VERSION };
}

/** A member that changes security is never ignored (okms-rest-api §1.2). @throws KmsError `invalid-field` */
export function refuseExtractable({ extractable }: { readonly extractable?: boolean | null | undefined }): void {
  if (extractable === true) throw invalidField('extractable', 'expected false: keys never leave the HSM');
}

function sizeOf({ size }: CreateBody, type: 'oct' | 'RSA'): number {
  const sizes = SIZES[type];
  if (typeof size === 'number' && sizes.includes(size)) return size;
  throw invalidField('size', `expected one of ${sizes.join(', ')} for type ${type}`);
}

function noSize({ size }: CreateBody): null {
  if (size === null || size === undefined) return null;
  throw invalidField('size', 'not accepted for type EC: give curve');
}

/** `crv` is the older name of `curve`. */
function curveOf({ curve, crv }: CreateBody): Curve {
  const named = curve ?? crv;
  if (named === null || named === undefined) throw invalidField('curve', `expected one of ${CURVES.join(', ')}`);
  if (crv !== null && crv !== undefined && crv !== named) throw invalidField('crv', 'expected the same value as curve');
  return named;
}

function noCurve({ curve, crv, type }: CreateBody): null {
  if ((curve ?? crv) === null || (curve ?? crv) === undefined) return null;
  throw invalidField('curve', `not accepted for type ${type ?? ''}`);
}

function usagesOf({ operations }: CreateBody, kind: Kind): readonly Usage[] {
  return chosen('operations', operations, kind) ?? defaultUsages(kind);
}

type UsageList = readonly Usage[] | null | undefined;

/** Absent and empty are the same (okms-cli sends an empty list); duplicates collapse. @throws KmsError `invalid-field` */
export function chosen(field: string, asked: UsageList, kind: Kind, publicOnly = false): readonly Usage[] | undefined {
  const wanted = new Set(asked ?? []);
  if (wanted.size === 0) return undefined;
  const possible = possibleUsages(kind, publicOnly);
  const unfit = [...wanted].find((usage) => !possible.includes(usage));
  if (unfit !== undefined) throw invalidField(field, `${unfit} is not possible for ${publicOnly ? 'a public key of ' : ''}type ${kind}`);
  return possible.filter((usage) => wanted.has(usage));
}

/** RFC 3339, UTC. */
function date(ms: number): string {
  return new Date(ms).toISOString();
}

/** @param jwk the public half, to be shown beside the metadata; undefined without `format=jwk` */
export function toServiceKey(key: Key, jwk?: PublicJwk): ServiceKey {
  return {
    id: key.id,
    name: key.label,
    type: key.kind,
    class: classOf(key),
    protectionLevel: 'HSM',
    operations: [...key.usages],
    ...(key.bits === null ? {} : { size: key.bits }),
    ...(key.curve === null ? {} : { curve: key.curve }),
    attributes: attributes(key),
    ...(jwk === undefined ? {} : { keys: [{ kid: key.id, ...jwk, key_ops: [...key.usages] }] }),
  };
}

function classOf(key: Key): ServiceKey['class'] {
  if (key.kind === 'oct') return 'SECRET_KEY';
  return isPublicOnly(key) ? 'PUBLIC_KEY' : 'KEY_PAIR';
}

function attributes(key: Key): ServiceKey['attributes'] {
  const generated = key.origin === 'generated';
  return {
    state: visibleState(key),
    original_creation_date: date(key.createdMs),
    ...(key.activatedMs === null ? {} : { activation_date: date(key.activatedMs) }),
    ...(key.deactivatedMs === null ? {} : { deactivation_date: date(key.deactivatedMs) }),
    ...(key.compromisedMs === null ? {} : { compromise_date: date(key.compromisedMs) }),
    ...(key.deletion === null ? {} : { scheduled_destruction: date(key.deletion.scheduledPurgeMs) }),
    extractable: false,
    never_extractable: generated,
    sensitive: !isPublicOnly(key),
    always_sensitive: generated,
  };
}

const LIVE: readonly KeyState[] = ['active', 'deactivated', 'compromised'];
const TOMBSTONES: readonly KeyState[] = ['destroyed', 'destroyed_compromised'];

/** Without a filter: every key that is not destroyed (okms-rest-api §2.4). */
export function statesOf(filter: z.infer<typeof keyState> | undefined): readonly KeyState[] {
  if (filter === undefined) return LIVE;
  if (filter === 'all') return [...LIVE, ...TOMBSTONES];
  return filter === 'pre_active' ? [] : [filter];
}
