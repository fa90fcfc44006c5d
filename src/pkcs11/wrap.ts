/**
 * A caller's bytes under a wrapping key in the token (RFC 3394, RFC 5649). Tokens offer it through C_WrapKey on
 * objects or through C_Encrypt; the profile says which. Lengths are checked here: SoftHSM and NSS pad others silently
 * and hand back more than they were given.
 */

import ck from 'pkcs11js';
import type { Handle } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import { type Mechanism, toCkMechanism } from './mechanism.ts';
import type { TokenSession } from './session.ts';
import { type Attribute, sessionSecret } from './template.ts';

/** Bytes a wrap adds, at most: 8 of integrity and up to 7 of padding. */
const EXPANSION = 16;

function checkLength({ profile }: TokenSession, mechanism: Mechanism, length: number): void {
  const { kwpWrap, maxBytes } = profile.keyWrap;
  const whole = length % 8 === 0;
  const fits = mechanism.name === 'aes-kw' ? whole && length >= 16 : length >= 1 && length <= maxBytes;
  if (!fits || length > maxBytes) throw new CryptokiError('key wrap length', ck.CKR_DATA_LEN_RANGE);
  if (mechanism.name === 'aes-kwp' && (kwpWrap === 'none' || (kwpWrap === 'multipleOf8' && (!whole || length < 16)))) {
    throw new CryptokiError('key wrap length', ck.CKR_MECHANISM_INVALID);
  }
}

/** @throws CryptokiError CKR_DATA_LEN_RANGE; CKR_MECHANISM_INVALID for a length this module wraps wrongly */
export function wrapBytes(session: TokenSession, key: Handle, mechanism: Mechanism, bytes: Uint8Array): Buffer {
  checkLength(session, mechanism, bytes.length);
  const { cryptoki, handle, profile } = session;
  const native = toCkMechanism(mechanism, profile);
  const room = bytes.length + EXPANSION;
  if (profile.keyWrap.dataKeyPath === 'encrypt') return cryptoki.encrypt(handle, native, key, bytes, room);
  const object = cryptoki.createSessionSecret(handle, bytes);
  return destroyAfter(session, object, () => cryptoki.wrapKey(handle, native, key, object, room));
}

export function unwrapBytes(session: TokenSession, key: Handle, mechanism: Mechanism, wrapped: Uint8Array): Buffer {
  const { cryptoki, handle, profile } = session;
  if (wrapped.length % 8 !== 0 || wrapped.length < 16 || wrapped.length > profile.keyWrap.maxBytes + EXPANSION) {
    throw new CryptokiError('key unwrap length', ck.CKR_WRAPPED_KEY_LEN_RANGE);
  }
  const native = toCkMechanism(mechanism, profile);
  if (profile.keyWrap.dataKeyPath === 'encrypt') return cryptoki.decrypt(handle, native, key, wrapped, wrapped.length);
  const object = cryptoki.unwrapKey(handle, native, key, wrapped, READABLE);
  return destroyAfter(session, object, () => Buffer.from(cryptoki.attribute(handle, object, ck.CKA_VALUE)));
}

/** What a client unwraps is the client's: readable for the moment until it is read, and never on the token. */
const READABLE: readonly Attribute[] = sessionSecret(true).map((attribute) =>
  attribute.type === ck.CKA_SENSITIVE ? { type: ck.CKA_SENSITIVE, value: false } : attribute);

export function destroyAfter<T>(session: TokenSession, object: Handle, use: () => T): T {
  try {
    return use();
  } finally {
    session.cryptoki.destroyObject(session.handle, object);
  }
}
