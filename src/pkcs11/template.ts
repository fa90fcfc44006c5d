/**
 * Complete attribute templates: every security and usage attribute is stated, never left to a token's default
 * (security §2.1: a SoftHSM key made with a minimal template is readable and may do everything).
 *
 * Order matters on unwrap: attributes are applied one by one, so ID and LABEL come first and MODIFIABLE last.
 */

import ck from 'pkcs11js';
import { hmacMechanism } from './mechanism.ts';
import type { Profile } from './profile.ts';

/** One attribute the binding can encode. Any other value type aborts the process inside it. */
export interface Attribute {
  readonly type: number;
  readonly value: Buffer | boolean | number;
}

/** What a new object serves; decides usage flags and allowed mechanisms, exactly (design §4). */
export type Purpose =
  | 'gcm'
  | 'cbc'
  | 'kw'
  | 'mac'
  /** HMAC-SHA-256 only: keys of the service itself. */
  | 'mac-sha256'
  | 'rsa-sign'
  | 'rsa-decrypt'
  /** Both: Key Vault's default usages allow it, the `fips` profile does not (design §4). */
  | 'rsa-sign-decrypt'
  | 'rsa-unwrap'
  | 'ec-sign';

interface Usages {
  readonly flags: readonly number[];
  readonly mechanisms: readonly number[];
}

function usagesOf(purpose: Purpose, profile: Profile): Usages {
  switch (purpose) {
    case 'gcm':
      return { flags: [ck.CKA_ENCRYPT, ck.CKA_DECRYPT], mechanisms: [profile.gcm.mechanism] };
    case 'cbc':
      return { flags: [ck.CKA_ENCRYPT, ck.CKA_DECRYPT], mechanisms: [ck.CKM_AES_CBC, ck.CKM_AES_CBC_PAD] };
    case 'kw':
      return wrapUsages(profile);
    case 'mac': {
      const mechanisms = (['sha256', 'sha384', 'sha512'] as const).map(hmacMechanism);
      return { flags: [ck.CKA_SIGN, ck.CKA_VERIFY], mechanisms };
    }
    case 'mac-sha256':
      return { flags: [ck.CKA_SIGN, ck.CKA_VERIFY], mechanisms: [hmacMechanism('sha256')] };
    case 'rsa-sign':
      return { flags: [ck.CKA_SIGN], mechanisms: RSA_SIGNATURES };
    case 'rsa-decrypt':
      return { flags: [ck.CKA_DECRYPT], mechanisms: [ck.CKM_RSA_PKCS, ...oaepMechanisms(profile)] };
    case 'rsa-sign-decrypt': {
      const flags = [ck.CKA_SIGN, ck.CKA_DECRYPT];
      return { flags, mechanisms: [...RSA_SIGNATURES, ...oaepMechanisms(profile)] };
    }
    case 'rsa-unwrap':
      return { flags: [ck.CKA_UNWRAP], mechanisms: [ck.CKM_RSA_PKCS_OAEP] };
    case 'ec-sign':
      return { flags: [ck.CKA_SIGN], mechanisms: [ck.CKM_ECDSA] };
  }
}

const RSA_SIGNATURES = [ck.CKM_RSA_PKCS, ck.CKM_RSA_PKCS_PSS];

/** Raw RSA only where RSA-OAEP-256 needs it. */
function oaepMechanisms({ oaep }: Profile): readonly number[] {
  return oaep.sha256 === 'raw' ? [ck.CKM_RSA_PKCS_OAEP, ck.CKM_RSA_X_509] : [ck.CKM_RSA_PKCS_OAEP];
}

function wrapUsages({ keyWrap }: Profile): Usages {
  const wraps = keyWrap.dataKeyPath === 'wrap-object';
  const flags = wraps ? [ck.CKA_WRAP, ck.CKA_UNWRAP] : [ck.CKA_ENCRYPT, ck.CKA_DECRYPT];
  return { flags, mechanisms: [keyWrap.kw, keyWrap.kwp].filter((mechanism) => mechanism !== null) };
}

const SECRET_FLAGS = [ck.CKA_ENCRYPT, ck.CKA_DECRYPT, ck.CKA_SIGN, ck.CKA_VERIFY, ck.CKA_WRAP, ck.CKA_UNWRAP];
const PRIVATE_FLAGS = [ck.CKA_DECRYPT, ck.CKA_SIGN, ck.CKA_SIGN_RECOVER, ck.CKA_UNWRAP];
/** Usage attributes of private keys. */
export const PRIVATE_USES: ReadonlySet<number> = new Set([...PRIVATE_FLAGS, ck.CKA_DERIVE]);
const PUBLIC_FLAGS = [ck.CKA_ENCRYPT, ck.CKA_VERIFY, ck.CKA_VERIFY_RECOVER, ck.CKA_WRAP];

/** The public half's flag for each flag of the private half. */
const PUBLIC_COUNTERPART: ReadonlyMap<number, number> = new Map([
  [ck.CKA_SIGN, ck.CKA_VERIFY],
  [ck.CKA_DECRYPT, ck.CKA_ENCRYPT],
  [ck.CKA_UNWRAP, ck.CKA_WRAP],
]);

export interface Naming {
  /** CKA_ID, 16 bytes. */
  readonly id: Buffer;
  /** CKA_LABEL, UTF-8. */
  readonly label: string;
}

/** CK_ULONG array in the platform's 8-byte little-endian form; the binding has no type for it. */
function mechanismList(mechanisms: readonly number[]): Buffer {
  const list = Buffer.alloc(mechanisms.length * 8);
  mechanisms.forEach((mechanism, index) => list.writeBigUInt64LE(BigInt(mechanism), index * 8));
  return list;
}

function flags(all: readonly number[], wanted: readonly number[]): Attribute[] {
  return all.map((type) => ({ type, value: wanted.includes(type) }));
}

/** Attribute types a profile may leave out, because the module does not know them. */
const OMITTABLE: Readonly<Record<Profile['templateOmissions'][number], number>> = {
  COPYABLE: ck.CKA_COPYABLE,
  ALLOWED_MECHANISMS: ck.CKA_ALLOWED_MECHANISMS,
  SIGN_RECOVER: ck.CKA_SIGN_RECOVER,
  VERIFY_RECOVER: ck.CKA_VERIFY_RECOVER,
  DERIVE: ck.CKA_DERIVE,
};

function known(template: readonly Attribute[], { templateOmissions }: Profile): readonly Attribute[] {
  const omitted = templateOmissions.map((name) => OMITTABLE[name]);
  return template.filter(({ type }) => !omitted.includes(type));
}

/** A secret or private object: not readable, not extractable, not changeable. `token` false makes a session object. */
function guarded(naming: Naming, all: readonly number[], usages: Usages, profile: Profile, token: boolean): readonly Attribute[] {
  const template = [
    { type: ck.CKA_ID, value: naming.id },
    { type: ck.CKA_LABEL, value: Buffer.from(naming.label, 'utf8') },
    { type: ck.CKA_TOKEN, value: token },
    { type: ck.CKA_PRIVATE, value: true },
    { type: ck.CKA_SENSITIVE, value: true },
    { type: ck.CKA_EXTRACTABLE, value: false },
    ...flags(all, usages.flags),
    { type: ck.CKA_DERIVE, value: false },
    { type: ck.CKA_ALLOWED_MECHANISMS, value: mechanismList(usages.mechanisms) },
    { type: ck.CKA_COPYABLE, value: false },
    { type: ck.CKA_MODIFIABLE, value: false },
  ];
  return known(template, profile);
}

export function secretTemplate(naming: Naming, purpose: Purpose, profile: Profile, token = true): readonly Attribute[] {
  return guarded(naming, SECRET_FLAGS, usagesOf(purpose, profile), profile, token);
}

export function privateTemplate(naming: Naming, purpose: Purpose, profile: Profile, token = true): readonly Attribute[] {
  return guarded(naming, PRIVATE_FLAGS, usagesOf(purpose, profile), profile, token);
}

export function publicTemplate(naming: Naming, purpose: Purpose, profile: Profile, token = true): readonly Attribute[] {
  const wanted = usagesOf(purpose, profile).flags.map((flag) => PUBLIC_COUNTERPART.get(flag) ?? flag);
  const template = [
    { type: ck.CKA_ID, value: naming.id },
    { type: ck.CKA_LABEL, value: Buffer.from(naming.label, 'utf8') },
    { type: ck.CKA_TOKEN, value: token },
    { type: ck.CKA_PRIVATE, value: false },
    ...flags(PUBLIC_FLAGS, wanted),
    { type: ck.CKA_DERIVE, value: false },
    { type: ck.CKA_COPYABLE, value: false },
    { type: ck.CKA_MODIFIABLE, value: false },
  ];
  return known(template, profile);
}

const SECRET_USES = [...SECRET_FLAGS, ck.CKA_DERIVE];

/**
 * A session object for bytes or keys in passing, without any use of its own. No VALUE_LEN: unwrap templates must not
 * hold it.
 * @param extractable whether it can be wrapped
 */
export function sessionSecret(extractable: boolean, uses: readonly number[] = []): readonly Attribute[] {
  return [
    { type: ck.CKA_CLASS, value: ck.CKO_SECRET_KEY },
    { type: ck.CKA_KEY_TYPE, value: ck.CKK_GENERIC_SECRET },
    { type: ck.CKA_TOKEN, value: false },
    { type: ck.CKA_PRIVATE, value: true },
    { type: ck.CKA_SENSITIVE, value: true },
    { type: ck.CKA_EXTRACTABLE, value: extractable },
    ...SECRET_USES.map((type) => ({ type, value: uses.includes(type) })),
  ];
}

/**
 * Compares what the token stored with what was asked for.
 * @param read reads one attribute in its raw form
 * @returns the first attribute type that differs, or undefined
 */
export function firstDifference(wanted: readonly Attribute[], read: (type: number) => Buffer): number | undefined {
  return wanted.find((attribute) => !sameValue(attribute, read(attribute.type)))?.type;
}

function sameValue({ type, value }: Attribute, stored: Buffer): boolean {
  if (typeof value === 'boolean') return stored.length === 1 && stored[0] === (value ? 1 : 0);
  if (typeof value === 'number') return stored.length === 8 && stored.readBigUInt64LE() === BigInt(value);
  return type === ck.CKA_ALLOWED_MECHANISMS ? sorted(stored) === sorted(value) : stored.equals(value);
}

/** Tokens may return the mechanisms in another order. */
function sorted(list: Buffer): string {
  return (list.toString('hex').match(/.{16}/g) ?? []).sort().join();
}
