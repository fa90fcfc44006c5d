/**
 * Data objects (CKO_DATA, PKCS#11 2.40 §4.5): the bytes the service itself leaves on the token. They are no keys and no
 * mechanism takes them; whoever reads one proves it by its content (integrity §5).
 *
 * A value cannot be edited in place, so it is replaced: the new object is made, and only then are others destroyed.
 */

import ck from 'pkcs11js';
import { ownCopy } from '../bytes.ts';
import type { Handle } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import type { DataObject } from './job.ts';
import { fromObjectHandle, toObjectHandle } from './objects.ts';
import { classify, isHandleGone } from './return-value.ts';
import type { TokenSession } from './session.ts';
import { type Attribute, firstDifference } from './template.ts';

/** Searches until two agree. One is spoilt by each change that falls into it, and those are seconds apart. */
const SEARCHES = 8;

function ofApplication(application: string): Attribute[] {
  return [
    { type: ck.CKA_CLASS, value: ck.CKO_DATA },
    { type: ck.CKA_APPLICATION, value: Buffer.from(application, 'utf8') },
  ];
}

/**
 * All of this application. While another process replaces an object, one search may come too early for the new one and
 * too late for the old one (SoftHSM 2.6.1, 50 replacements a second: in 2 of 1,000 readings nothing was left to read).
 * A result counts when a second search finds the same and nothing vanished between them: none of 66,000 was empty.
 */
export function readData(session: TokenSession, application: string): readonly DataObject[] {
  for (let left = SEARCHES; left > 0; left -= 1) {
    const found = search(session, application);
    const objects = found.map((handle) => readObject(session, handle)).filter((object) => object !== undefined);
    if (objects.length === found.length && sameHandles(found, search(session, application))) return objects;
  }
  throw new CryptokiError('search that keeps changing', ck.CKR_FUNCTION_FAILED);
}

function search({ cryptoki, handle }: TokenSession, application: string): readonly Handle[] {
  return cryptoki.find(handle, [{ type: ck.CKA_TOKEN, value: true }, ...ofApplication(application)]);
}

function sameHandles(some: readonly Handle[], others: readonly Handle[]): boolean {
  const sorted = (handles: readonly Handle[]): string => handles.map(toObjectHandle).sort().join();
  return sorted(some) === sorted(others);
}

/** @returns undefined when somebody destroyed it meanwhile */
function readObject(session: TokenSession, handle: Handle): DataObject | undefined {
  try {
    const label = readOrEmpty(session, handle, ck.CKA_LABEL).toString('utf8');
    return { handle: toObjectHandle(handle), label, value: ownCopy(readOrEmpty(session, handle, ck.CKA_VALUE)) };
  } catch (error) {
    if (isHandleGone(error, session.profile)) return undefined;
    throw error;
  }
}

/** A creation that was cut short can leave an object without an attribute. Any other failure says nothing about it. */
function readOrEmpty({ cryptoki, handle, profile }: TokenSession, object: Handle, type: number): Buffer {
  try {
    return cryptoki.attribute(handle, object, type);
  } catch (error) {
    if (error instanceof CryptokiError && classify(error.code, profile) === 'defect') return Buffer.alloc(0);
    throw error;
  }
}

/**
 * When it fails the new object may be there and obsolete ones may be left; never is an obsolete one gone without it.
 * @param obsolete as `readData` gave them
 */
export function replaceData(
  session: TokenSession,
  application: string,
  label: string,
  value: Uint8Array,
  obsolete: readonly DataObject[],
): void {
  const ours = ofApplication(application);
  makeObject(session, ours, [
    { type: ck.CKA_TOKEN, value: true },
    { type: ck.CKA_PRIVATE, value: true },
    { type: ck.CKA_LABEL, value: Buffer.from(label, 'utf8') },
    { type: ck.CKA_VALUE, value: Buffer.from(value) },
    { type: ck.CKA_MODIFIABLE, value: false },
  ]);
  for (const old of obsolete) {
    // With its value: where handles may move, this one may name another object by now, the new one among them.
    destroyIf(session, fromObjectHandle(old.handle), [...ours, { type: ck.CKA_VALUE, value: Buffer.from(old.value) }]);
  }
}

function makeObject(session: TokenSession, ours: readonly Attribute[], others: readonly Attribute[]): void {
  const template = [...ours, ...others];
  const made = create(session, template);
  const differs = firstDifference(template, reader(session, made));
  if (differs === undefined) return;
  destroyIf(session, made, ours);
  throw new CryptokiError(`read-back of attribute 0x${differs.toString(16)}`, ck.CKR_ATTRIBUTE_VALUE_INVALID);
}

/** The template never varies: a module that refuses it has no permanent data objects. NSS softokn has none. */
function create({ cryptoki, handle, profile }: TokenSession, template: readonly Attribute[]): Handle {
  try {
    return cryptoki.createDataObject(handle, template);
  } catch (error) {
    if (!(error instanceof CryptokiError) || classify(error.code, profile) !== 'defect') throw error;
    throw new CryptokiError(error.call, ck.CKR_FUNCTION_NOT_SUPPORTED);
  }
}

/** Destroys the object if it still is what it is taken for. That somebody else destroyed it first is as good. */
function destroyIf(session: TokenSession, object: Handle, expected: readonly Attribute[]): void {
  try {
    if (firstDifference(expected, reader(session, object)) !== undefined) return;
    session.cryptoki.destroyObject(session.handle, object);
  } catch (error) {
    if (!isHandleGone(error, session.profile)) throw error;
  }
}

function reader({ cryptoki, handle }: TokenSession, object: Handle): (type: number) => Buffer {
  return (type) => cryptoki.attribute(handle, object, type);
}
