/**
 * Entry of a token thread: one session, synchronous calls only, so that init and operation run back to back and no
 * buffer of an operation can be collected while the module works on it.
 *
 * The first thread of a process initialises the module and logs in; both are states of the whole process. It tries
 * again with back-off while the token is away, but never after a PIN error.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { CanaryWatch } from './canary.ts';
import { Cryptoki, type Handle } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import { executeBatch } from './execute.ts';
import type { FromThread, ThreadSetup, ToThread } from './job.ts';
import { findSlot, isLatched, login, provision } from './login.ts';
import { readPin } from './pin-file.ts';
import { TokenSession } from './session.ts';
import { StartError } from './start-error.ts';

const RETRY_MS = [250, 500, 1000, 2000];
const CANARY_PERIOD_MS = 1000;
const setup = workerData as ThreadSetup;
const port = parentPort;

interface Started {
  readonly cryptoki: Cryptoki;
  readonly session: TokenSession;
  readonly canary: CanaryWatch;
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
  return { cryptoki, session, canary: new CanaryWatch(session, setup.canary, setup.canaryHandle) };
}

function serve(started: Started): void {
  const { session, canary } = started;
  const beat = setInterval(() => { post({ kind: 'canary', ok: canary.answers() }); }, CANARY_PERIOD_MS);
  listen((message) => {
    if (message.kind === 'stop') {
      clearInterval(beat);
      stop(started);
    } else if (message.kind === 'batch') {
      post({ kind: 'batch', replies: executeBatch(session, canary, message.jobs, message.budgetMs) });
      for (const { job } of message.jobs) if ('data' in job) job.data.fill(0);
    }
  });
  post({ kind: 'ready', serial: canary.serial, canaryHandle: canary.handle });
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
  const detail = error instanceof Error ? error.message : '';
  post({ kind: 'waiting', reason, code, detail });
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
    if (setup.first) {
      readPin(setup.pinFile);
      if (isLatched(setup)) throw new StartError('pin-latched');
    }
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
