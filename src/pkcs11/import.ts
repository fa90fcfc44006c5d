/**
 * Import is unwrapping, always (pkcs11-lab §3.1): a key-encryption key is unwrapped by the token's import pair into a
 * session object that can do nothing but unwrap, and that unwraps the key into its permanent place. No plaintext of a
 * key passes through here.
 */

import ck from 'pkcs11js';
import type { Handle } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import { curveParameters, derPoint } from './curve.ts';
import type { CreatedObject, PublicHalf, WrappedKey } from './job.ts';
import { toCkMechanism } from './mechanism.ts';
import { leavingNothing, publicLabel, readBack, toObjectHandle } from './objects.ts';
import type { Profile } from './profile.ts';
import type { TokenSession } from './session.ts';
import { type Attribute, type Naming, PRIVATE_USES, privateTemplate, publicTemplate, type Purpose, secretTemplate, sessionSecret } from './template.ts';

/** @param importKey handle of the RSA private key; nothing is left on the token when this fails */
export function importObject(
  session: TokenSession,
  importKey: Handle,
  objectId: string,
  label: string,
  wrapped: WrappedKey,
): CreatedObject {
  const naming = { id: Buffer.from(objectId, 'hex'), label };
  return leavingNothing(session, objectId, label, () => {
    const handle = unwrapInto(session, importKey, naming, wrapped, true);
    if (wrapped.half === null) return { handles: [{ part: 'secret', handle: toObjectHandle(handle) }], publicAttributes: null };
    const half = createPublicHalf(session, { ...naming, label: publicLabel(label) }, wrapped.purpose, wrapped.half, true);
    return {
      handles: [{ part: 'private', handle: toObjectHandle(handle) }, { part: 'public', handle: toObjectHandle(half) }],
      publicAttributes: null,
    };
  });
}

/** A public object alone, of a public-only import. */
export function importPublicObject(
  session: TokenSession,
  objectId: string,
  label: string,
  purpose: Purpose,
  half: PublicHalf,
): CreatedObject {
  const naming = { id: Buffer.from(objectId, 'hex'), label };
  return leavingNothing(session, objectId, label, () => {
    const handle = createPublicHalf(session, naming, purpose, half, true);
    return { handles: [{ part: 'public', handle: toObjectHandle(handle) }], publicAttributes: null };
  });
}

/** @param token false makes a session object, for a trial */
export function unwrapInto(
  session: TokenSession,
  importKey: Handle,
  naming: Naming,
  wrapped: WrappedKey,
  token: boolean,
): Handle {
  const { cryptoki, handle, profile } = session;
  const oaep = toCkMechanism({ name: 'rsa-oaep', hash: profile.import.oaepHash }, profile);
  const kek = cryptoki.unwrapKey(handle, oaep, importKey, wrapped.kek, KEK);
  try {
    const template = templateOf(session, naming, wrapped, token);
    const kwp = toCkMechanism({ name: 'aes-kwp' }, profile);
    const key = cryptoki.unwrapKey(handle, kwp, kek, wrapped.blob, [...classOf(session, wrapped), ...template]);
    if (token) {
      checkType(session, key, wrapped);
      readBack(session, key, keptOf(template, wrapped, profile));
    }
    return key;
  } finally {
    cryptoki.destroyObject(handle, kek);
  }
}

/** Lives as long as one import; can unwrap and nothing else. */
const KEK: readonly Attribute[] = sessionSecret(false, [ck.CKA_UNWRAP]).map((attribute) =>
  attribute.type === ck.CKA_KEY_TYPE ? { type: ck.CKA_KEY_TYPE, value: ck.CKK_AES } : attribute);

const KEY_TYPES = { aes: ck.CKK_AES, secret: ck.CKK_GENERIC_SECRET, rsa: ck.CKK_RSA, ec: ck.CKK_EC } as const;

function isSecret({ type }: WrappedKey): boolean {
  return type === 'aes' || type === 'secret';
}

function templateOf(session: TokenSession, naming: Naming, wrapped: WrappedKey, token: boolean): readonly Attribute[] {
  const make = isSecret(wrapped) ? secretTemplate : privateTemplate;
  return make(naming, wrapped.purpose, session.profile, token);
}

/** Some modules go by what the blob holds, whatever type the template states (security P-7). */
function checkType(session: TokenSession, key: Handle, { type }: WrappedKey): void {
  const stored = session.cryptoki.attribute(session.handle, key, ck.CKA_KEY_TYPE);
  if (stored.readBigUInt64LE() !== BigInt(KEY_TYPES[type])) throw new CryptokiError('type of the key', ck.CKR_WRAPPED_KEY_INVALID);
}

/** What of the template the module keeps to. */
function keptOf(template: readonly Attribute[], wrapped: WrappedKey, profile: Profile): readonly Attribute[] {
  const widened = !isSecret(wrapped) && profile.import.privateUsages === 'all';
  return widened ? template.filter(({ type }) => !PRIVATE_USES.has(type)) : template;
}

/** Class and type come first; some modules want the public point beside an EC private key. */
function classOf({ profile }: TokenSession, wrapped: WrappedKey): readonly Attribute[] {
  const attributes: Attribute[] = [
    { type: ck.CKA_CLASS, value: isSecret(wrapped) ? ck.CKO_SECRET_KEY : ck.CKO_PRIVATE_KEY },
    { type: ck.CKA_KEY_TYPE, value: KEY_TYPES[wrapped.type] },
  ];
  const { ecPointAttribute } = profile.import;
  if (wrapped.half?.type === 'ec' && ecPointAttribute !== null) {
    attributes.push({ type: ecPointAttribute, value: Buffer.from(wrapped.half.point) });
  }
  return attributes;
}

export function createPublicHalf(
  session: TokenSession,
  naming: Naming,
  purpose: Purpose,
  half: PublicHalf,
  token: boolean,
): Handle {
  const { cryptoki, handle, profile } = session;
  const template = publicTemplate(naming, purpose, profile, token);
  const created = cryptoki.createPublicObject(handle, [...publicValues(half, profile.ecPoint), ...template]);
  if (token) readBack(session, created, template);
  return created;
}

function publicValues(half: PublicHalf, ecPoint: 'der' | 'raw'): readonly Attribute[] {
  if (half.type === 'rsa') {
    return [
      { type: ck.CKA_KEY_TYPE, value: ck.CKK_RSA },
      { type: ck.CKA_MODULUS, value: Buffer.from(half.modulus) },
      { type: ck.CKA_PUBLIC_EXPONENT, value: Buffer.from(half.exponent) },
    ];
  }
  return [
    { type: ck.CKA_KEY_TYPE, value: ck.CKK_EC },
    { type: ck.CKA_EC_PARAMS, value: curveParameters(half.curve) },
    { type: ck.CKA_EC_POINT, value: ecPoint === 'der' ? derPoint(half.point) : Buffer.from(half.point) },
  ];
}
