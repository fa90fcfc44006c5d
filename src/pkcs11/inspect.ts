/**
 * Looks whether an object is what a creation of ours made: for a key whose rows are lost. Every attribute of the
 * template it was made with must be there, and it must have been generated in this token.
 */

import ck from 'pkcs11js';
import { curveParameters } from './curve.ts';
import type { Generation, Inspection, Part } from './job.ts';
import { findOne, fromObjectHandle, publicLabel, readPublic } from './objects.ts';
import { isOfTheObject } from './return-value.ts';
import type { TokenSession } from './session.ts';
import { type Attribute, firstDifference, privateTemplate, publicTemplate, secretTemplate } from './template.ts';

const KEY_TYPES: Readonly<Record<Generation['type'], number>> = {
  aes: ck.CKK_AES,
  secret: ck.CKK_GENERIC_SECRET,
  rsa: ck.CKK_RSA,
  ec: ck.CKK_EC,
};

/** The token says these of itself; nobody can set them. */
const GENERATED_HERE: readonly Attribute[] = [
  { type: ck.CKA_LOCAL, value: true },
  { type: ck.CKA_ALWAYS_SENSITIVE, value: true },
  { type: ck.CKA_NEVER_EXTRACTABLE, value: true },
];

/** Changes nothing. @param label as it was given to the creation */
export function inspectObject(session: TokenSession, objectId: string, label: string, generation: Generation): Inspection {
  const naming = { id: Buffer.from(objectId, 'hex'), label };
  const { purpose, type } = generation;
  const { profile } = session;
  if (type === 'aes' || type === 'secret') {
    const length = { type: ck.CKA_VALUE_LEN, value: type === 'aes' ? generation.bits / 8 : 64 };
    const wanted = [...secretTemplate(naming, purpose, profile), length, ...GENERATED_HERE];
    return { found: compare(session, objectId, 'secret', type, wanted), publicAttributes: null };
  }
  const hidden = compare(session, objectId, 'private', type, [...privateTemplate(naming, purpose, profile), ...GENERATED_HERE]);
  if (hidden !== 'whole') return { found: hidden, publicAttributes: null };
  const half = publicTemplate({ ...naming, label: publicLabel(label) }, purpose, profile);
  const found = compare(session, objectId, 'public', type, [...half, ...parametersOf(generation)]);
  return { found, publicAttributes: found === 'whole' ? publicOf(session, objectId, type) : null };
}

function parametersOf(generation: Generation & { type: 'rsa' | 'ec' }): readonly Attribute[] {
  if (generation.type === 'ec') return [{ type: ck.CKA_EC_PARAMS, value: curveParameters(generation.curve) }];
  return [{ type: ck.CKA_MODULUS_BITS, value: generation.bits }];
}

function compare(
  session: TokenSession,
  objectId: string,
  part: Part,
  type: Generation['type'],
  wanted: readonly Attribute[],
): Inspection['found'] {
  const object = findOne(session, objectId, part);
  if (object === undefined) return 'missing';
  const read = (attribute: number): Buffer => session.cryptoki.attribute(session.handle, fromObjectHandle(object), attribute);
  try {
    const differs = firstDifference([{ type: ck.CKA_KEY_TYPE, value: KEY_TYPES[type] }, ...wanted], read);
    return differs === undefined ? 'whole' : 'different';
  } catch (error) {
    if (!isOfTheObject(error, session.profile)) throw error;
    return 'different'; // it does not give one of them
  }
}

function publicOf(session: TokenSession, objectId: string, type: 'rsa' | 'ec'): Inspection['publicAttributes'] {
  const object = findOne(session, objectId, 'public');
  return object === undefined ? null : readPublic(session, fromObjectHandle(object), type);
}
