/** Runs one job on a token thread's session. Lengths and types were checked before; the token's answer is checked here. */

import ck from 'pkcs11js';
import type { CanaryWatch } from './canary.ts';
import { CryptokiError } from './cryptoki-error.ts';
import { readData, replaceData } from './data-objects.ts';
import { encryptGcm } from './gcm.ts';
import { importObject, importPublicObject } from './import.ts';
import { inspectObject } from './inspect.ts';
import { type AddressedJob, HANDLES_MOVED, type Job, type Reply, type Results } from './job.ts';
import { toCkMechanism } from './mechanism.ts';
import { createObject, destroyObjects, fromObjectHandle, listObjects, readPublic } from './objects.ts';
import { isSpurious, isStillThere } from './presence.ts';
import type { TokenSession } from './session.ts';
import { survey } from './survey.ts';
import { sessionSecret } from './template.ts';
import { trial } from './trial.ts';
import { destroyAfter, unwrapBytes, wrapBytes } from './wrap.ts';

/** Jobs that may run once more after a session was lost: they leave nothing behind. */
const IDEMPOTENT: ReadonlySet<Job['op']> = new Set([
  'encrypt',
  'encryptGcm',
  'decrypt',
  'sign',
  'verify',
  'wrapBytes',
  'unwrapBytes',
  'unwrapThrowAway',
  'random',
  'publicAttributes',
  'trial',
  'list',
  'survey',
  'inspect',
  'readData',
  'destroy',
]);

/**
 * Runs a batch, or as much of it as can be begun within the budget: a slow HSM shall cost a batch its last jobs, not its
 * deadline. Where handles may move, each key of it is then asked for its id: a result made with another key is dropped
 * before anybody sees it.
 * @returns the replies to the jobs that were begun; at least one
 */
export function executeBatch(
  session: TokenSession,
  canary: CanaryWatch,
  jobs: readonly AddressedJob[],
  budgetMs: number,
): Reply[] {
  const end = performance.now() + budgetMs;
  const replies: Reply[] = [];
  for (const { job } of jobs) {
    if (replies.length > 0 && performance.now() > end) break;
    replies.push(WITNESSED.has(job.op) ? witnessed(session, canary, job) : execute(session, job));
  }
  if (session.profile.handles === 'fixed') return replies;
  const begun = jobs.slice(0, replies.length);
  return begun.every((addressed) => isStillThere(session, addressed)) ? replies : replies.map(() => MOVED);
}

/** Jobs that change what is on the token. */
const CHANGES: ReadonlySet<Job['op']> = new Set(['create', 'import', 'importPublic', 'destroy', 'replaceData']);

/** With the jobs that say what is not there. `list` is none of them: absence in it proves nothing to its caller. */
const WITNESSED: ReadonlySet<Job['op']> = new Set([...CHANGES, 'survey', 'inspect', 'readData']);

/**
 * On a token that is gone a search finds nothing and a destruction seems done; on another token a creation succeeds.
 * So these count only when the canary answers after them.
 */
function witnessed(session: TokenSession, canary: CanaryWatch, job: Job): Reply {
  if (CHANGES.has(job.op) && session.profile.serialiseCreates) lookAround(session);
  const reply = execute(session, job);
  if (!('ok' in reply) || canary.answers()) return reply;
  return { code: ck.CKR_TOKEN_NOT_PRESENT, call: `canary after ${job.op}` };
}

/**
 * SoftHSM takes its own write for all that happened: a process that writes after another one, without having searched
 * since, never sees the other's objects. Measured on 2.6.1; the caller holds the host's turn for changes.
 */
function lookAround(session: TokenSession): void {
  try {
    session.run(({ cryptoki, handle }) => cryptoki.find(handle, NOTHING), true);
  } catch {
    // The change itself will tell.
  }
}

/** Matches no object of ours. */
const NOTHING = [{ type: ck.CKA_TOKEN, value: true }, { type: ck.CKA_ID, value: Buffer.alloc(16) }];

const MOVED: Reply = { code: ck.CKR_KEY_HANDLE_INVALID, call: HANDLES_MOVED };

function execute(session: TokenSession, job: Job): Reply {
  const reply = attempt(session, job);
  return isSpurious(session, job, reply) ? { code: ck.CKR_KEY_HANDLE_INVALID, call: `object after ${job.op}` } : reply;
}

function attempt(session: TokenSession, job: Job): Reply {
  try {
    return { ok: session.run((current) => run(current, job), IDEMPOTENT.has(job.op)) };
  } catch (error) {
    if (error instanceof CryptokiError) return { code: error.code, call: error.call };
    return { code: ck.CKR_FUNCTION_FAILED, call: `${job.op}: ${String(error)}` };
  }
}

function run(session: TokenSession, job: Job): Results[Job['op']] {
  const { cryptoki, handle, profile } = session;
  switch (job.op) {
    case 'encryptGcm':
      return encryptGcm(session, fromObjectHandle(job.key), job.aad, job.data);
    case 'encrypt': {
      const mechanism = toCkMechanism(job.mechanism, profile);
      return cryptoki.encrypt(handle, mechanism, fromObjectHandle(job.key), job.data, job.room);
    }
    case 'decrypt': {
      // As long as the ciphertext: SoftHSM refuses the length of the plaintext as too small.
      const mechanism = toCkMechanism(job.mechanism, profile);
      return cryptoki.decrypt(handle, mechanism, fromObjectHandle(job.key), job.data, job.data.length);
    }
    case 'sign':
      return sign(session, job);
    case 'verify':
      return verify(session, job);
    case 'random':
      return random(session, job.length);
    case 'wrapBytes':
      return wrapBytes(session, fromObjectHandle(job.key), job.mechanism, job.data);
    case 'unwrapBytes':
      return unwrapBytes(session, fromObjectHandle(job.key), job.mechanism, job.data);
    case 'import':
      return importObject(session, fromObjectHandle(job.key), job.objectId, job.label, job.wrapped);
    case 'importPublic':
      return importPublicObject(session, job.objectId, job.label, job.purpose, job.half);
    case 'publicAttributes':
      return readPublic(session, fromObjectHandle(job.key), job.type);
    case 'trial':
      return trial(session, fromObjectHandle(job.key), job.wrapped, job.steps);
    case 'unwrapThrowAway':
      return unwrapThrowAway(session, job);
    case 'create':
      return createObject(session, job.objectId, job.label, job.generation);
    case 'destroy':
      destroyObjects(session, job.objectIds, job.labelPrefix);
      return null;
    case 'list':
      return listObjects(session, job.known);
    case 'survey':
      return survey(session);
    case 'inspect':
      return inspectObject(session, job.objectId, job.label, job.generation);
    case 'readData':
      return readData(session, job.application);
    case 'replaceData':
      replaceData(session, job.application, job.label, job.value, job.obsolete);
      return null;
  }
}

type JobOf<Op extends Job['op']> = Extract<Job, { op: Op }>;

function sign(session: TokenSession, job: JobOf<'sign'>): Uint8Array {
  const mechanism = toCkMechanism(job.mechanism, session.profile);
  const signature = session.cryptoki.sign(session.handle, mechanism, fromObjectHandle(job.key), job.data, job.length);
  assertLength('C_Sign', signature, job.length);
  return signature;
}

function verify(session: TokenSession, job: JobOf<'verify'>): boolean {
  const mechanism = toCkMechanism(job.mechanism, session.profile);
  try {
    session.cryptoki.verify(session.handle, mechanism, fromObjectHandle(job.key), job.data, job.signature);
    return true;
  } catch (error) {
    if (error instanceof CryptokiError && SIGNATURE_WRONG.has(error.code)) return false;
    throw error;
  }
}

const SIGNATURE_WRONG: ReadonlySet<number> = new Set([ck.CKR_SIGNATURE_INVALID, ck.CKR_SIGNATURE_LEN_RANGE]);

function random(session: TokenSession, length: number): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(length);
  const { maxRandom } = session.profile;
  for (let done = 0; done < length; done += maxRandom) {
    const part = session.cryptoki.generateRandom(session.handle, Math.min(maxRandom, length - done));
    part.copy(bytes, done);
    part.fill(0);
  }
  return bytes;
}

/** A short result means that the operation stayed active and data was lost without an error. */
function assertLength(call: string, result: Uint8Array, expected: number): void {
  if (result.length !== expected) throw new CryptokiError(`${call} length`, ck.CKR_DATA_LEN_RANGE);
}

function unwrapThrowAway(session: TokenSession, job: JobOf<'unwrapThrowAway'>): null {
  const { cryptoki, handle, profile } = session;
  const mechanism = toCkMechanism(job.mechanism, profile);
  const key = cryptoki.unwrapKey(handle, mechanism, fromObjectHandle(job.key), job.data, sessionSecret(false));
  return destroyAfter(session, key, () => null);
}
