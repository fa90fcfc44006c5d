/**
 * Making, listing and destroying token objects, inside a token thread. Key objects are write-once: nothing here, or
 * anywhere, changes one.
 */

import ck from 'pkcs11js';
import type { Handle } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import { curveParameters } from './curve.ts';
import { type CreatedObject, type Generation, HANDLES_MOVED, type ListedObject, type ObjectHandle, type Part, type PublicAttributes } from './job.ts';
import { isOfTheToken } from './return-value.ts';
import type { TokenSession } from './session.ts';
import { type Attribute, firstDifference, privateTemplate, publicTemplate, secretTemplate } from './template.ts';

const RSA_EXPONENT = Buffer.from('010001', 'hex');

export function toObjectHandle(handle: Handle): ObjectHandle {
  return handle.readBigUInt64LE();
}

export function fromObjectHandle(handle: ObjectHandle): Handle {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(handle);
  return bytes;
}

function byId(objectId: string): Attribute[] {
  return [{ type: ck.CKA_TOKEN, value: true }, { type: ck.CKA_ID, value: Buffer.from(objectId, 'hex') }];
}

/**
 * Generates one object or pair and reads it back. Whatever a failed call left behind is destroyed: modules leave
 * half-made token objects after a late error (security §2.1).
 */
export function createObject(
  session: TokenSession,
  objectId: string,
  label: string,
  generation: Generation,
): CreatedObject {
  return leavingNothing(session, objectId, label, () => generate(session, objectId, label, generation));
}

/** Destroys whatever a failed creation left under this id. */
export function leavingNothing<T>(session: TokenSession, objectId: string, label: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    // On a session of its own: the failed call may have left its operation active on this one.
    session.run((fresh) => { destroyObjects(fresh, [objectId], beforeFamily(label)); }, true);
    throw error;
  }
}

/** Labels end in the family; what stands before is shared by the two halves of a pair. */
function beforeFamily(label: string): string {
  return label.slice(0, label.lastIndexOf(':') + 1);
}

export function publicLabel(label: string): string {
  return `${beforeFamily(label)}public`;
}

function generate(session: TokenSession, objectId: string, label: string, generation: Generation): CreatedObject {
  const naming = { id: Buffer.from(objectId, 'hex'), label };
  const { purpose } = generation;
  if (generation.type === 'aes' || generation.type === 'secret') {
    const template = secretTemplate(naming, purpose, session.profile);
    return generateSecret(session, generation, template);
  }
  const wanted = publicTemplate({ ...naming, label: publicLabel(label) }, purpose, session.profile);
  const hidden = privateTemplate(naming, purpose, session.profile);
  return generatePair(session, generation, wanted, hidden);
}

function generateSecret(
  session: TokenSession,
  generation: Generation & { type: 'aes' | 'secret' },
  template: readonly Attribute[],
): CreatedObject {
  const bytes = generation.type === 'aes' ? generation.bits / 8 : 64;
  const mechanism = generation.type === 'aes' ? ck.CKM_AES_KEY_GEN : ck.CKM_GENERIC_SECRET_KEY_GEN;
  const length = { type: ck.CKA_VALUE_LEN, value: bytes };
  const handle = session.cryptoki.generateKey(session.handle, mechanism, [length, ...template]);
  readBack(session, handle, [length, ...template]);
  return { handles: [{ part: 'secret', handle: toObjectHandle(handle) }], publicAttributes: null };
}

function generatePair(
  session: TokenSession,
  generation: Generation & { type: 'rsa' | 'ec' },
  publicHalf: readonly Attribute[],
  privateHalf: readonly Attribute[],
): CreatedObject {
  const { mechanism, parameters } = pairParameters(generation);
  const pair = session.cryptoki.generateKeyPair(
    session.handle,
    mechanism,
    [...parameters, ...publicHalf],
    privateHalf,
  );
  readBack(session, pair.publicKey, publicHalf);
  readBack(session, pair.privateKey, privateHalf);
  return {
    handles: [
      { part: 'private', handle: toObjectHandle(pair.privateKey) },
      { part: 'public', handle: toObjectHandle(pair.publicKey) },
    ],
    publicAttributes: readPublic(session, pair.publicKey, generation.type),
  };
}

function pairParameters(generation: Generation & { type: 'rsa' | 'ec' }): {
  mechanism: number;
  parameters: readonly Attribute[];
} {
  if (generation.type === 'ec') {
    const curve = { type: ck.CKA_EC_PARAMS, value: curveParameters(generation.curve) };
    return { mechanism: ck.CKM_EC_KEY_PAIR_GEN, parameters: [curve] };
  }
  const bits = { type: ck.CKA_MODULUS_BITS, value: generation.bits };
  const exponent = { type: ck.CKA_PUBLIC_EXPONENT, value: RSA_EXPONENT };
  return { mechanism: ck.CKM_RSA_PKCS_KEY_PAIR_GEN, parameters: [bits, exponent] };
}

/** @throws CryptokiError CKR_ATTRIBUTE_VALUE_INVALID when the token stored something else than was asked for */
export function readBack(session: TokenSession, handle: Handle, template: readonly Attribute[]): void {
  const read = (type: number): Buffer => session.cryptoki.attribute(session.handle, handle, type);
  const wanted = template.find(({ type }) => type === ck.CKA_ID)?.value;
  if (session.profile.handles === 'may-move' && !read(ck.CKA_ID).equals(wanted as Buffer)) {
    throw new CryptokiError(HANDLES_MOVED, ck.CKR_KEY_HANDLE_INVALID);
  }
  const differs = firstDifference(template, read);
  if (differs !== undefined) {
    throw new CryptokiError(`read-back of attribute 0x${differs.toString(16)}`, ck.CKR_ATTRIBUTE_VALUE_INVALID);
  }
}

export function readPublic(session: TokenSession, handle: Handle, type: 'rsa' | 'ec'): PublicAttributes {
  const read = (attribute: number): Buffer => Buffer.from(session.cryptoki.attribute(session.handle, handle, attribute));
  if (type === 'ec') return { type, point: read(ck.CKA_EC_POINT) };
  return { type, modulus: read(ck.CKA_MODULUS), exponent: read(ck.CKA_PUBLIC_EXPONENT) };
}

/**
 * Destroys the key objects with these ids, whatever their number, and proves them gone.
 * Objects whose label does not start with ours are somebody else's, whatever their id, and stay. So does
 * everything that is no key: labels of data objects do start with ours.
 */
export function destroyObjects(session: TokenSession, objectIds: readonly string[], labelPrefix: string): void {
  const ours = (objectId: string): readonly Handle[] =>
    session.cryptoki
      .find(session.handle, byId(objectId))
      .filter((handle) => labelOf(session, handle).startsWith(labelPrefix) && isKey(session, handle));
  for (const objectId of objectIds) {
    for (const handle of ours(objectId)) session.cryptoki.destroyObject(session.handle, handle);
    if (ours(objectId).length > 0) throw new CryptokiError('C_DestroyObject', ck.CKR_FUNCTION_FAILED);
  }
}

function labelOf(session: TokenSession, handle: Handle): string {
  return session.cryptoki.attribute(session.handle, handle, ck.CKA_LABEL).toString('utf8');
}

function isKey(session: TokenSession, handle: Handle): boolean {
  return partOf(session.cryptoki.attribute(session.handle, handle, ck.CKA_CLASS)) !== undefined;
}

/**
 * Secret, private and public token objects. Only id and class are read: labels cost as much again, and matter only
 * where objects are destroyed. One unreadable object is left out and does not spoil the listing.
 */
export function listObjects(
  session: TokenSession,
  known: ReadonlySet<ObjectHandle>,
): { added: readonly ListedObject[]; present: ReadonlySet<ObjectHandle> } {
  const found = session.cryptoki.find(session.handle, [{ type: ck.CKA_TOKEN, value: true }]).map(toObjectHandle);
  const added = found.filter((handle) => !known.has(handle)).map((handle) => describe(session, handle));
  return { added: added.filter((object) => object !== undefined), present: new Set(found) };
}

/**
 * @returns undefined for an object that is no key, that is gone, or that does not say what it is
 * @throws CryptokiError when session or token fails: an object passed over then would be taken for missing
 */
function describe(session: TokenSession, object: ObjectHandle): ListedObject | undefined {
  const native = fromObjectHandle(object);
  const read = (type: number): Buffer => session.run(({ cryptoki, handle }) => cryptoki.attribute(handle, native, type), true);
  try {
    const part = partOf(read(ck.CKA_CLASS));
    return part === undefined ? undefined : { handle: object, part, objectId: read(ck.CKA_ID).toString('hex') };
  } catch (error) {
    if (isOfTheToken(error, session.profile)) throw error;
    return undefined;
  }
}

/** @returns undefined for an object that is no key */
function partOf(objectClass: Buffer): Part | undefined {
  return PARTS.get(Number(objectClass.readBigUInt64LE()));
}

const PARTS: ReadonlyMap<number, Part> = new Map([
  [ck.CKO_SECRET_KEY, 'secret'],
  [ck.CKO_PRIVATE_KEY, 'private'],
  [ck.CKO_PUBLIC_KEY, 'public'],
]);

/** The single object with this id and part. Several with one id are legal in PKCS#11, and an alarm here (H-13). */
export function findOne(session: TokenSession, objectId: string, part: Part): ObjectHandle | undefined {
  const matches = session.cryptoki
    .find(session.handle, byId(objectId))
    .map((handle) => describe(session, toObjectHandle(handle)))
    .filter((object) => object?.part === part);
  return matches.length === 1 ? matches[0]?.handle : undefined;
}
