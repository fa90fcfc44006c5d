/**
 * From a loaded module to a logged-in session on the right token: initialise with OS locking, find the token by label
 * and serial, log in once. Also the making of a token, for `kms init` only.
 *
 * A login is never repeated after a PIN error: real tokens lock for good. A latch file, keyed by the PIN source's
 * inode, size and change time (never by the PIN), stops every later login until the source changes.
 */

import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import ck from 'pkcs11js';
import type { Cryptoki, Handle, TokenFacts } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import type { ThreadSetup } from './job.ts';
import { readPin } from './pin-file.ts';
import type { Profile } from './profile.ts';
import { StartError } from './start-error.ts';

/** Tokens with this label; several are refused, what `factsOrNothing` does not show is passed over. */
export function findSlot(cryptoki: Cryptoki, setup: ThreadSetup): Handle {
  const matches = cryptoki.slots(true).filter((slot) => {
    const facts = factsOrNothing(cryptoki, slot);
    return facts?.label === setup.tokenLabel && (setup.tokenSerial ?? facts.serial) === facts.serial;
  });
  const [slot] = matches;
  if (slot === undefined || matches.length > 1) throw new StartError('token-absent');
  return slot;
}

/** @returns undefined for a slot that cannot be read, and for one whose token never came to be */
function factsOrNothing(cryptoki: Cryptoki, slot: Handle): TokenFacts | undefined {
  try {
    const facts = cryptoki.tokenFacts(slot);
    return isTorso(facts) ? undefined : facts;
  } catch {
    return undefined;
  }
}

/**
 * What a kill in the middle of C_InitToken leaves in SoftHSM: a label, and a security officer who has no PIN and gets none
 * from another C_InitToken. Nobody will ever log in there.
 */
function isTorso({ flags }: TokenFacts): boolean {
  const relevant = ck.CKF_TOKEN_INITIALIZED | ck.CKF_SO_PIN_LOCKED | ck.CKF_USER_PIN_INITIALIZED;
  return (flags & relevant) === (ck.CKF_TOKEN_INITIALIZED | ck.CKF_SO_PIN_LOCKED);
}

const PIN_ERRORS: ReadonlySet<number> = new Set([
  ck.CKR_PIN_INCORRECT,
  ck.CKR_PIN_INVALID,
  ck.CKR_PIN_LEN_RANGE,
  ck.CKR_PIN_LOCKED,
  ck.CKR_PIN_EXPIRED,
  ck.CKR_USER_PIN_NOT_INITIALIZED,
]);

/** @throws StartError `pin` after a PIN error, `pin-latched` while no login may be tried, `pin-file` for what is no PIN */
export function login(cryptoki: Cryptoki, session: Handle, slot: Handle, setup: ThreadSetup): void {
  const source = pinSource(setup.pinFile);
  const { flags, pinLengths } = cryptoki.tokenFacts(slot);
  if (!mayTry(source, latched(setup.latchFile), flags)) throw new StartError('pin-latched');
  const pin = readPin(setup.pinFile, pinLengths);
  try {
    cryptoki.login(session, 'user', pin);
  } catch (error) {
    if (!(error instanceof CryptokiError) || !PIN_ERRORS.has(error.code)) throw error;
    writeFileSync(setup.latchFile, source, { mode: 0o600, flush: true });
    throw new StartError('pin', error.code);
  }
  rmSync(setup.latchFile, { force: true });
}

/** Whether the PIN source is the one that failed: nothing is tried before it changes. */
export function isLatched({ pinFile, latchFile }: ThreadSetup): boolean {
  return latched(latchFile) === pinSource(pinFile);
}

/**
 * Not with the source that failed; not when one more wrong PIN locks the token; and with a low count only after an
 * operator changed the source, which is then no automatic login.
 */
function mayTry(source: string, failedSource: string | undefined, flags: number): boolean {
  if (source === failedSource) return false;
  if ((flags & (ck.CKF_USER_PIN_FINAL_TRY | ck.CKF_USER_PIN_LOCKED)) !== 0) return false;
  return (flags & ck.CKF_USER_PIN_COUNT_LOW) === 0 || failedSource !== undefined;
}

/** Names a PIN source as it is now, without reading it. @throws the system error when it cannot be looked at */
export function pinSource(file: string): string {
  const { ino, size, mtimeMs, ctimeMs } = statSync(file);
  return [ino, size, mtimeMs, ctimeMs].join(' ');
}

function latched(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/**
 * Makes the token, unless a token with the label is there, and sets its user PIN, unless it has one: an interrupted
 * run is gone on with. How, the profile says; touches no slot that holds another initialised token.
 */
export function provision(cryptoki: Cryptoki, setup: ThreadSetup): void {
  if (setup.provision === null) return;
  PROVISIONERS[setup.profile.provision](cryptoki, setup, setup.provision);
}

type Provisioner = (cryptoki: Cryptoki, setup: ThreadSetup, files: { readonly soPinFile: string }) => void;

const PROVISIONERS: Readonly<Record<Profile['provision'], Provisioner>> = {
  'free-slot': (cryptoki, setup, { soPinFile }) => {
    const soPin = readPin(soPinFile);
    const slot = slotWithLabel(cryptoki, setup) ?? makeToken(cryptoki, soPin, setup.tokenLabel);
    setUserPin(cryptoki, slot, soPin, setup);
  },
  // The module makes the token itself, under a fixed label, and its security officer has no PIN until the user has one.
  'empty-so-pin': (cryptoki, setup) => {
    const slot = slotWithLabel(cryptoki, setup);
    if (slot !== undefined) setUserPin(cryptoki, slot, '', setup);
  },
  // Its vendor's ceremony made it.
  none: () => undefined,
};

function setUserPin(cryptoki: Cryptoki, slot: Handle, soPin: string, setup: ThreadSetup): void {
  const { flags, pinLengths } = cryptoki.tokenFacts(slot);
  if ((flags & ck.CKF_USER_PIN_INITIALIZED) !== 0) return;
  const pin = readPin(setup.pinFile, pinLengths);
  const session = cryptoki.openSession(slot);
  cryptoki.login(session, 'so', soPin);
  cryptoki.initPin(session, pin);
  cryptoki.logout(session);
  cryptoki.closeSession(session);
}

function slotWithLabel(cryptoki: Cryptoki, { tokenLabel }: ThreadSetup): Handle | undefined {
  return slotOf(cryptoki, ({ label }) => label === tokenLabel);
}

function makeToken(cryptoki: Cryptoki, soPin: string, label: string): Handle {
  const free = slotOf(cryptoki, ({ flags }) => (flags & ck.CKF_TOKEN_INITIALIZED) === 0);
  if (free === undefined) throw new StartError('token-absent');
  cryptoki.initToken(free, soPin, label.padEnd(32));
  return free;
}

function slotOf(cryptoki: Cryptoki, fits: (facts: TokenFacts) => boolean): Handle | undefined {
  return cryptoki.slots(true).find((slot) => {
    const facts = factsOrNothing(cryptoki, slot);
    return facts !== undefined && fits(facts);
  });
}
