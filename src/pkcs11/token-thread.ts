/**
 * Entry of a token thread: one session, synchronous calls only, so that init and operation run back to back and no
 * buffer of an operation can be collected while the module works on it.
 *
 * The first thread of a process initialises the module and logs in; both are states of the whole process. It tries
 * again with back-off while the token is away, but never after a PIN error.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { Cryptoki, type Handle } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import { executeBatch } from './execute.ts';
import { CANARY_QUESTION, type FromThread, type ObjectHandle, type ThreadSetup, type ToThread } from './job.ts';
import { findSlot, isLatched, login, provision, StartError } from './login.ts';
import { toCkMechanism } from './mechanism.ts';
import { findOne, fromObjectHandle } from './objects.ts';
import { TokenSession } from './session.ts';

const RETRY_MS = [250, 500, 1000, 2000];
const CANARY_PERIOD_MS = 1000;
/**
 * Single calls may fail; a token is lost when none of these succeeds. A moment lies between them: in SoftHSM the login
 * of another process makes C_GetTokenInfo fail while it lasts.
 */
const CANARY_TRIES = 4;
const CANARY_PAUSE_MS = 15;
const setup = workerData as ThreadSetup;
const port = parentPort;

interface Started {
  readonly cryptoki: Cryptoki;
  readonly slot: Handle;
  readonly session: TokenSession;
  readonly canary: ObjectHandle | undefined;
  readonly serial: string;
}

function post(message: FromThread): void {
  port?.postMessage(message);
}

interface Found {
  readonly slot: Handle;
  /** Held open and unused for the life of the process: a module may end the login with its last session. */
  readonly anchor: Handle;
}

/** @throws StartError, CryptokiError */
function findToken(cryptoki: Cryptoki): Found {
  cryptoki.initialize(setup.profile);
  provision(cryptoki, setup);
  const slot = findSlot(cryptoki, setup);
  return { slot, anchor: cryptoki.openSession(slot) };
}

/** @throws StartError, CryptokiError */
function start(cryptoki: Cryptoki, { slot, anchor }: Found): Started {
  if (setup.first) login(cryptoki, anchor, slot, setup);
  const session = new TokenSession(cryptoki, setup.profile, slot);
  const started = { cryptoki, slot, session, serial: session.tokenFacts().serial, canary: findCanary(session) };
  if (!canaryAnswers(started)) throw new StartError('wrong-token');
  return started;
}

function findCanary(session: TokenSession): ObjectHandle | undefined {
  if (setup.canary === null) return undefined;
  const handle = findOne(session, setup.canary.objectId, 'secret');
  if (handle === undefined) throw new StartError('wrong-token');
  return handle;
}

/** Token information and one HMAC: session calls alone succeed even when the token is gone (security H-6). */
function canaryAnswers({ session, canary, serial }: Started): boolean {
  if (setup.canary === null || canary === undefined) return true;
  const mechanism = toCkMechanism({ name: 'hmac', hash: 'sha256' }, setup.profile);
  const mac = session.cryptoki.sign(session.handle, mechanism, fromObjectHandle(canary), CANARY_QUESTION, 32);
  return session.tokenFacts().serial === serial && mac.equals(setup.canary.mac);
}

function askCanary(started: Started): FromThread {
  let code = 0;
  for (let left = CANARY_TRIES; left > 0; left -= 1) {
    try {
      if (started.session.run(() => canaryAnswers(started), false)) return { kind: 'canary', ok: true, code: 0 };
    } catch (error) {
      code = error instanceof CryptokiError ? error.code : 0;
    }
    pause(CANARY_PAUSE_MS);
  }
  return { kind: 'canary', ok: false, code };
}

/** The thread has nothing else to do: its calls are synchronous anyway. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function serve(started: Started): void {
  const beat = setInterval(() => { post(askCanary(started)); }, CANARY_PERIOD_MS);
  listen((message) => {
    if (message.kind === 'stop') {
      clearInterval(beat);
      stop(started);
    } else if (message.kind === 'batch') {
      post({ kind: 'batch', id: message.id, replies: executeBatch(started.session, message.jobs) });
      for (const { job } of message.jobs) if ('data' in job) job.data.fill(0);
    }
  });
  post({ kind: 'ready', serial: started.serial });
}

function listen(receive: (message: ToThread) => void): void {
  port?.removeAllListeners('message');
  port?.on('message', receive);
}

/** The first thread is stopped last: finalising ends the module for the whole process. */
function stop({ session, cryptoki }: Started): void {
  try {
    session.close();
    if (setup.first) cryptoki.finalize();
  } catch {
    // The process ends anyway.
  }
  post({ kind: 'stopped' });
  port?.close();
}

/** Kept for the life of the process: the binding unloads the library when its module object is collected. */
let loaded: Cryptoki | undefined;

/** A retry of the first thread finalises first: only a fresh initialisation sees a token that came back. */
function again(attempt: number, error: unknown): void {
  const reason = error instanceof StartError ? error.reason : 'unavailable';
  const code = error instanceof StartError || error instanceof CryptokiError ? error.code : 0;
  post({ kind: 'waiting', reason, code });
  if (setup.first) finalizeQuietly();
  setTimeout(() => { begin(attempt + 1); }, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]);
}

function finalizeQuietly(): void {
  try {
    loaded?.finalize();
  } catch {
    // It was never initialised.
  }
}

function begin(attempt: number): void {
  listen(({ kind }) => { if (kind === 'stop') port?.close(); });
  try {
    // Looked at before the module is: a source that failed is not worth an initialisation.
    if (setup.first && isLatched(setup)) throw new StartError('pin-latched');
    loaded ??= new Cryptoki(setup.profile.module);
    const found = findToken(loaded);
    if (setup.first) awaitTurn(loaded, found, attempt);
    else serve(start(loaded, found));
  } catch (error) {
    again(attempt, error);
  }
}

/** One login at a time on this host: whoever fails stops the others. */
function awaitTurn(cryptoki: Cryptoki, found: Found, attempt: number): void {
  listen(({ kind }) => {
    if (kind === 'stop') port?.close();
    if (kind !== 'may-login') return;
    try {
      serve(start(cryptoki, found));
    } catch (error) {
      again(attempt, error);
    }
  });
  post({ kind: 'asks-login' });
}

begin(0);
