/** Key Vault JSON ↔ domain types (azure-keyvault-keys-api §1.1, §4, §5). Pure. */

import type { z } from 'zod';
import { decodeAnyBase64 } from '../../bytes.ts';
import { invalidField, KmsError } from '../../errors.ts';
import type { VersionSpec } from '../../keys/birth.ts';
import { type JwkMembers, readJwk } from '../../keys/imported.ts';
import type { Curve, Kind, Tags, Usage, Vault } from '../../keys/key.ts';
import type { NamedImport, NamedSpec, VersionPatch } from '../../keys/named-keys.ts';
import type { attributes, createBody, importBody, updateBody } from './schema.ts';

type CreateBody = z.infer<typeof createBody>;
type ImportBody = z.infer<typeof importBody>;
type UpdateBody = z.infer<typeof updateBody>;
type Attributes = z.infer<typeof attributes> | null | undefined;

interface KeyType {
  readonly kind: Kind;
  readonly namedHsm: boolean;
}

const TYPES: ReadonlyMap<string, KeyType> = new Map([
  ['RSA', { kind: 'RSA', namedHsm: false }],
  ['RSA-HSM', { kind: 'RSA', namedHsm: true }],
  ['EC', { kind: 'EC', namedHsm: false }],
  ['EC-HSM', { kind: 'EC', namedHsm: true }],
  ['oct', { kind: 'oct', namedHsm: false }],
  ['oct-HSM', { kind: 'oct', namedHsm: true }],
]);

/** In a managed HSM every key is named as one of an HSM (§4.1). @throws KmsError `invalid-field` */
function keyType(field: string, kty: string, { flavour }: Vault): KeyType {
  const type = TYPES.get(kty);
  if (type === undefined) throw invalidField(field, `the key type is not supported: expected one of ${[...TYPES.keys()].join(', ')}`, 'key-type');
  if (flavour === 'managed-hsm') return { ...type, namedHsm: true };
  if (type.kind === 'oct' && !type.namedHsm) throw invalidField(field, 'oct is not supported in this vault: expected oct-HSM', 'key-type');
  return type;
}

const CURVES: ReadonlyMap<string, Curve> = new Map([
  ['P-256', 'P-256'], ['P-384', 'P-384'], ['P-521', 'P-521'], ['P-256K', 'P-256K'], ['SECP256K1', 'P-256K'],
]);

function curveOf(field: string, crv: string | null | undefined): Curve {
  const curve = CURVES.get(crv ?? 'P-256');
  if (curve === undefined) throw invalidField(field, `the curve is not supported: expected one of ${[...CURVES.keys()].join(', ')}`, 'curve');
  return curve;
}

const SIZES: Readonly<Record<'oct' | 'RSA', readonly number[]>> = { oct: [128, 192, 256], RSA: [2048, 3072, 4096] };
const DEFAULT_SIZES = { oct: 256, RSA: 2048 } as const;

function bitsOf(kind: Kind, size: number | null | undefined): number | null {
  if (kind === 'EC') return null;
  const bits = size ?? DEFAULT_SIZES[kind];
  if (!SIZES[kind].includes(bits)) throw invalidField('key_size', `expected one of ${SIZES[kind].join(', ')} for a key of type ${kind}`);
  return bits;
}

const USAGES: Readonly<Record<Kind, readonly Usage[]>> = {
  RSA: ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'],
  EC: ['sign', 'verify'],
  oct: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey', 'sign', 'verify'],
};
/** HMAC has to be asked for (§4.6). */
const DEFAULT_USAGES: Readonly<Record<Kind, readonly Usage[]>> = { ...USAGES, oct: USAGES.oct.slice(0, 4) };

type Operations = readonly string[] | null | undefined;

/** @throws KmsError `not-implemented` for a key that only imports others */
function usagesOf(field: string, kind: Kind, operations: Operations): readonly Usage[] | undefined {
  if (operations === null || operations === undefined) return undefined;
  if (operations.length === 1 && operations[0] === 'import') {
    throw new KmsError('not-implemented', `${field}: keys for the import of wrapped keys are not in this release`);
  }
  const unfit = operations.find((operation) => !USAGES[kind].some((usage) => usage === operation));
  if (unfit !== undefined) throw invalidField(field, `${unfit} is not possible for a key of type ${kind}`);
  return USAGES[kind].filter((usage) => operations.includes(usage));
}

/** None named is as none given, when a key is made. */
function givenUsages(field: string, kind: Kind, operations: Operations): readonly Usage[] {
  const given = usagesOf(field, kind, operations) ?? [];
  return given.length === 0 ? DEFAULT_USAGES[kind] : given;
}

/** What would change security must not be ignored while it is not there (design §6). */
function refuseExport(given: Attributes, policy: unknown): void {
  if (given?.exportable === true) throw invalidField('attributes.exportable', 'AKV.SKR.1001: exportable keys are not in this release');
  if (policy !== null && policy !== undefined) throw invalidField('release_policy', 'AKV.SKR.1005: a key that is not exportable has no release policy');
}

function milliseconds(seconds: number | null | undefined): number | null {
  return seconds === null || seconds === undefined ? null : seconds * 1000;
}

function versionSpec(given: Attributes, tags: CreateBody['tags']): VersionSpec {
  const nbfMs = milliseconds(given?.nbf);
  const expMs = milliseconds(given?.exp);
  return { enabled: given?.enabled ?? true, nbfMs, expMs, tags: toTags(tags) };
}

function toTags(tags: CreateBody['tags']): Tags {
  return Object.entries(tags ?? {});
}

/** @throws KmsError `invalid-field` naming the member */
export function toNamedSpec(body: CreateBody, vault: Vault): NamedSpec {
  const { kind, namedHsm } = keyType('kty', body.kty, vault);
  const exponent = body.public_exponent ?? 65_537;
  if (kind === 'RSA' && exponent !== 65_537) throw invalidField('public_exponent', 'expected 65537');
  refuseExport(body.attributes, body.release_policy);
  return {
    kind,
    namedHsm,
    bits: bitsOf(kind, body.key_size),
    curve: kind === 'EC' ? curveOf('crv', body.crv) : null,
    usages: givenUsages('key_ops', kind, body.key_ops),
    ...versionSpec(body.attributes, body.tags),
  };
}

/** @throws KmsError `invalid-field` for what can be seen without looking at the material */
export function toNamedImport(body: ImportBody, vault: Vault): NamedImport {
  const { key } = body;
  const { kind, namedHsm } = keyType('key.kty', key.kty, vault);
  if (key.key_hsm !== null && key.key_hsm !== undefined) {
    throw new KmsError('not-implemented', 'key.key_hsm: wrapped keys are not in this release');
  }
  refuseExport(body.attributes, body.release_policy);
  const crv = kind === 'EC' ? curveOf('key.crv', key.crv) : undefined;
  const usages = givenUsages('key.key_ops', kind, key.key_ops);
  const jwk = { ...members(key), ...(crv !== undefined && { crv }) };
  if (kind !== 'oct' && jwk.d === undefined) throw invalidField('key.d', 'required: a private key is imported');
  return {
    namedHsm: namedHsm || body.Hsm === true,
    ...versionSpec(body.attributes, body.tags),
    open: async () => ({ clear: await readJwk(kind, jwk, (member) => `key.${member}`), usages }),
  };
}

const MEMBERS = ['n', 'e', 'd', 'dp', 'dq', 'qi', 'p', 'q', 'k', 'x', 'y'] as const;

/** In the one spelling that is read further down: clients send either alphabet, padded or not. */
function members(key: ImportBody['key']): JwkMembers {
  return Object.fromEntries(MEMBERS.flatMap((member) => {
    const value = key[member];
    return value === null || value === undefined ? [] : [[member, readBinary(`key.${member}`, value).toString('base64url')]];
  }));
}

/** What is absent stays; `key_ops` and `tags` replace what was there. @throws KmsError `invalid-field` */
export function toPatch(body: UpdateBody, kind: Kind): VersionPatch {
  const { attributes: given, tags } = body;
  refuseExport(given, body.release_policy);
  const usages = usagesOf('key_ops', kind, body.key_ops);
  return {
    ...(isThere(given?.enabled) && { enabled: given.enabled }),
    ...(isThere(given?.nbf) && { nbfMs: given.nbf * 1000 }),
    ...(isThere(given?.exp) && { expMs: given.exp * 1000 }),
    ...(usages !== undefined && { usages }),
    ...(isThere(tags) && { tags: toTags(tags) }),
  };
}

function isThere<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}

/** @throws KmsError `invalid-field` */
export function readBinary(field: string, text: string): Buffer {
  const bytes = decodeAnyBase64(text);
  if (bytes === undefined) throw invalidField(field, 'expected base64url');
  return bytes;
}
