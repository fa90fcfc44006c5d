/** Who may make a token, and how: decided by the profile, seen in the calls that reach the module. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import type { Cryptoki, TokenFacts } from '../../src/pkcs11/cryptoki.ts';
import type { ThreadSetup } from '../../src/pkcs11/job.ts';
import { provision } from '../../src/pkcs11/login.ts';
import { loadProfile, type Profile } from '../../src/pkcs11/profile.ts';

const LABEL = 'our token';
const pinLengths = { min: 4, max: 255 };
const FREE: TokenFacts = { label: '', serial: '', flags: 0, pinLengths };
const OTHER: TokenFacts = { label: 'other', serial: '1', flags: ck.CKF_TOKEN_INITIALIZED | ck.CKF_USER_PIN_INITIALIZED, pinLengths };
const WITHOUT_PIN: TokenFacts = { label: LABEL, serial: '2', flags: ck.CKF_TOKEN_INITIALIZED, pinLengths };
/** What a kill in C_InitToken leaves: no security officer can log in. */
const TORSO: TokenFacts = { label: LABEL, serial: '3', flags: ck.CKF_TOKEN_INITIALIZED | ck.CKF_SO_PIN_LOCKED | ck.CKF_SO_PIN_TO_BE_CHANGED, pinLengths };
const READY: TokenFacts = { ...WITHOUT_PIN, flags: OTHER.flags };

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kms-provision-'));
  writeFileSync(join(folder, 'so.pin'), 'so-pin\n');
  writeFileSync(join(folder, 'user.pin'), 'user-pin\n');
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** A module that notes the calls that change something, with the slot or session they are made on. */
class Noting {
  readonly calls: string[] = [];
  readonly #tokens: TokenFacts[];

  constructor(tokens: readonly TokenFacts[]) {
    this.#tokens = [...tokens];
  }

  slots = (): readonly Buffer[] => this.#tokens.map((_, index) => Buffer.from([index]));
  tokenFacts = (slot: Buffer): TokenFacts => this.#tokens[slot[0]!]!;
  openSession = (slot: Buffer): Buffer => slot;
  closeSession = (session: Buffer): void => { this.calls.push(`close ${session[0]}`); };
  login = (session: Buffer, user: string, pin: string): void => { this.calls.push(`login ${session[0]} ${user} "${pin}"`); };
  initPin = (session: Buffer, pin: string): void => { this.calls.push(`initPin ${session[0]} "${pin}"`); };
  logout = (session: Buffer): void => { this.calls.push(`logout ${session[0]}`); };
  initToken = (slot: Buffer, pin: string, label: string): void => {
    this.calls.push(`initToken ${slot[0]} "${pin}" "${label.trim()}"`);
    this.#tokens[slot[0]!] = WITHOUT_PIN;
  };
}

function callsOf(how: Profile['provision'], tokens: readonly TokenFacts[], asked = true): readonly string[] {
  const module = new Noting(tokens);
  const profile = { ...loadProfile(join('hsm-config', 'softhsm-2.6.1.yaml'), {}), provision: how };
  const setup: ThreadSetup = {
    profile,
    tokenLabel: LABEL,
    tokenSerial: null,
    pinFile: join(folder, 'user.pin'),
    first: true,
    canary: null,
    canaryHandle: null,
    provision: asked ? { soPinFile: join(folder, 'so.pin') } : null,
    latchFile: join(folder, 'pin.latch'),
  };
  provision(module as unknown as Cryptoki, setup);
  return module.calls;
}

const setsPin = (slot: number, soPin: string): readonly string[] =>
  [`login ${slot} so "${soPin}"`, `initPin ${slot} "user-pin"`, `logout ${slot}`, `close ${slot}`];

describe('free-slot', () => {
  test('makes the token in the first free slot and sets its PIN', () => {
    expect(callsOf('free-slot', [OTHER, FREE, FREE])).toEqual([`initToken 1 "so-pin" "${LABEL}"`, ...setsPin(1, 'so-pin')]);
  });

  test('goes on with a token that has no PIN', () => {
    expect(callsOf('free-slot', [OTHER, WITHOUT_PIN, FREE])).toEqual(setsPin(1, 'so-pin'));
  });

  test('passes over a token that was never made to its end, and makes one', () => {
    expect(callsOf('free-slot', [TORSO, FREE])).toEqual([`initToken 1 "so-pin" "${LABEL}"`, ...setsPin(1, 'so-pin')]);
  });

  test.each([[[OTHER]], [[TORSO]]])('a slot with another token is not free (%#)', (tokens) => {
    expect(() => callsOf('free-slot', tokens)).toThrow('token-absent');
  });
});

describe('empty-so-pin', () => {
  test('sets the PIN of the token that the module made, as a security officer without PIN', () => {
    expect(callsOf('empty-so-pin', [OTHER, WITHOUT_PIN])).toEqual(setsPin(1, ''));
  });

  test('never makes a token', () => {
    expect(callsOf('empty-so-pin', [OTHER, FREE])).toEqual([]);
  });
});

test.each([[[FREE]], [[WITHOUT_PIN]], [[OTHER, FREE]], [[OTHER, WITHOUT_PIN, READY]]])('none: changes nothing (%#)', (tokens) => {
  expect(callsOf('none', tokens)).toEqual([]);
});

test.each(['free-slot', 'empty-so-pin', 'none'] as const)('%s: a token with a PIN is left alone', (how) => {
  expect(callsOf(how, [OTHER, READY, FREE])).toEqual([]);
});

test.each(['free-slot', 'empty-so-pin', 'none'] as const)('%s: nothing is done unless asked', (how) => {
  expect(callsOf(how, [FREE, WITHOUT_PIN], false)).toEqual([]);
});
