/**
 * Whether the object of a job was there, and the right one, while the job ran. Others destroy objects and restart HSMs
 * at any time, and modules notice late.
 */

import ck from 'pkcs11js';
import { CryptokiError } from './cryptoki-error.ts';
import type { AddressedJob, Job, ObjectHandle, Reply } from './job.ts';
import { fromObjectHandle } from './objects.ts';
import type { Profile } from './profile.ts';
import { isHandleGone, isOfTheToken } from './return-value.ts';
import type { TokenSession } from './session.ts';

/** The handle still denotes the object that was meant. */
export function isStillThere(session: TokenSession, { job, objectId }: AddressedJob): boolean {
  if (objectId === null || !('key' in job)) return true;
  try {
    return idOf(session, job.key).toString('hex') === objectId;
  } catch (error) {
    // An object destroyed meanwhile has no id; any other failure proves nothing.
    return isHandleGone(error, session.profile);
  }
}

/**
 * The reply speaks against a key that is no more. Measured on SoftHSM 2.6.1: when an object is destroyed in the middle of
 * an operation, it goes on with attributes that are gone. Right signatures do not verify (CKR_SIGNATURE_INVALID,
 * _LEN_RANGE), keys have the wrong type, function or mechanism (CKR_KEY_TYPE_INCONSISTENT, _FUNCTION_NOT_PERMITTED,
 * CKR_MECHANISM_INVALID). Asked whatever the data did to the operation, so that the time it takes says nothing of it
 * (security H-5).
 */
export function isSpurious(session: TokenSession, job: Job, reply: Reply): boolean {
  if (!('key' in job) || !speaksAgainstKey(reply, session.profile)) return false;
  try {
    idOf(session, job.key);
    return false;
  } catch (error) {
    return isHandleGone(error, session.profile);
  }
}

/** A signature that does not verify, and every failure but those of session and token. */
function speaksAgainstKey(reply: Reply, profile: Profile): boolean {
  if ('ok' in reply) return reply.ok === false;
  return !isOfTheToken(new CryptokiError(reply.call, reply.code), profile);
}

/** @throws CryptokiError */
function idOf(session: TokenSession, key: ObjectHandle): Buffer {
  return session.run(({ cryptoki, handle }) => cryptoki.attribute(handle, fromObjectHandle(key), ck.CKA_ID), true);
}
