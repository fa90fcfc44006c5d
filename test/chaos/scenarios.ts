/**
 * Scenarios C-1 to C-12 of `security.md` §4.3 as data: what goes wrong, for at least `seconds()`, and what must hold
 * beyond the invariants. Each is run by `run.ts`, under mixed load.
 */

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from '@jest/globals';
import { parse } from 'yaml';
import { auditRecords, processOf } from '../support/audit-records.ts';
import { times } from '../support/form.ts';
import { readStore } from '../support/store-rows.ts';
import { eventually } from '../support/wait.ts';
import { type Field, type FieldOptions, selfTestNow } from './field.ts';
import { type Entry, succeeded } from './recorder.ts';
import { type Act, CRYPTO, decrypt, IDEMPOTENT } from './requests.ts';

export interface Scenario extends FieldOptions {
  readonly name: string;
  /** Brings the fault about and ends it: when it resolves, nothing is wrong any more. */
  readonly fault: (field: Field) => Promise<void>;
  /** I-8: milliseconds from the end of the fault to ready. */
  readonly recoveryMs: number;
  /** The token gives wrong results during the fault, so what was made then proves nothing. */
  readonly wrongResults?: true;
  /** What must hold beyond the invariants, asked while the service still runs. */
  readonly also?: (field: Field) => void | Promise<void>;
}

/** Seconds that each fault lasts. */
export function seconds(): number {
  return times(2, 60);
}

const faultMs = (): number => seconds() * 1000;
/** I-8. */
const RECOVERY_MS = 10_000;
const RECOVERY_FROM_HANG_MS = 20_000;

const CRYPTO_CALLS = ['C_Encrypt*', 'C_Decrypt*', 'C_Sign*', 'C_Verify*', 'C_Generate*'];
/** One call of each operation: those that do the work. */
const WORKING_CALLS = ['C_Encrypt', 'C_Decrypt', 'C_Sign', 'C_Verify', 'C_GenerateKey', 'C_GenerateKeyPair'];

/** These rules for as long as a fault lasts. */
function ruled(rules: readonly string[]): Scenario['fault'] {
  return async (field) => {
    field.shim.set(rules);
    await field.lasts(faultMs());
    field.shim.clear();
  };
}

/** As `ruled`; the service must say that it is not ready, and not say otherwise before the fault ends. */
function down(rules: readonly string[]): Scenario['fault'] {
  return async (field) => {
    field.shim.set(rules);
    await field.unready();
    await field.lastsDown(faultMs());
    field.shim.clear();
  };
}

/** One short fault after another, each survived before the next. */
async function again(field: Field, once: (round: number) => Promise<void>): Promise<void> {
  for (let round = 0, end = performance.now() + faultMs(); performance.now() < end; round += 1) {
    await once(round);
    await field.settled();
  }
}

/** Of those that the key's own life does not explain: I-7 judges every 4xx. */
function successRate(entries: readonly Entry[]): number {
  const served = entries.filter(succeeded).length;
  return served / (served + entries.filter(({ status }) => status >= 500 || status === 0).length);
}

function made(entries: readonly Entry[], acts: ReadonlySet<Act>): readonly Entry[] {
  return entries.filter(({ act }) => acts.has(act));
}

function described(field: Field, entries: readonly Entry[]): readonly string[] {
  return short(entries.map((entry) => field.recorder.describe(entry)));
}

const SHOWN = 12;

/** What is broken is often broken a thousand times. */
export function short(lines: readonly string[]): readonly string[] {
  const more = lines.length - SHOWN;
  return more > 0 ? [...lines.slice(0, SHOWN), `… and ${more} more`] : lines;
}

/** Nobody made or used a key while the token could not be trusted. */
function nothingServed(field: Field): void {
  const asked = made(field.whileDown(), new Set<Act>([...CRYPTO, 'create']));
  expect(asked.length).toBeGreaterThan(10);
  expect(described(field, asked.filter(succeeded))).toEqual([]);
}

const NEEDS_NO_TOKEN: ReadonlySet<Act> = new Set(['get', 'list', 'deactivate']);

/** What the load gets when nothing is wrong: everything, so that each 503 of a scenario is the work of its fault. */
const noFault: Scenario = {
  name: 'no fault',
  fault: ruled([]),
  recoveryMs: RECOVERY_MS,
  also: (field) => {
    // Whoever asks for a key while another deletes it may find its row without its object.
    const unserved = field.recorder.entries.filter(({ status, asked: { key }, endedMs }) =>
      (status >= 500 || status === 0) && (key === null || key.deleteSentMs > endedMs));
    expect(described(field, unserved)).toEqual([]);
  },
};

// ---- C-1, C-2: the token directory ----

const tokenAway: Scenario = {
  name: 'C-1: the token directory is away',
  fault: async (field) => {
    renameSync(field.tokens, `${field.tokens}.away`);
    await field.unready();
    await field.lastsDown(faultMs());
    renameSync(`${field.tokens}.away`, field.tokens);
  },
  recoveryMs: RECOVERY_MS,
  also: nothingServed,
};

/** @param fill puts something into the empty directory that stands where the token was; `right` is where that is now */
function replaced(what: string, fill: (field: Field, right: string) => void): Scenario {
  return {
    name: `C-2: in place of the token there is ${what}`,
    fault: async (field) => {
      const right = `${field.tokens}.away`;
      const wrong = `${field.tokens}.wrong`;
      renameSync(field.tokens, right);
      mkdirSync(field.tokens);
      fill(field, right);
      await field.unready();
      const before = objectFiles(field.tokens);
      await field.lastsDown(faultMs());
      renameSync(field.tokens, wrong);
      renameSync(right, field.tokens);
      // Nothing was made in the wrong place; what was, before anybody could notice, is no acknowledged key (I-1).
      expect(objectFiles(wrong)).toEqual(before);
      rmSync(wrong, { recursive: true });
    },
    recoveryMs: RECOVERY_MS,
    also: nothingServed,
  };
}

function objectFiles(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.object')).sort();
}

/** Another token with the same label and the same PINs. */
function otherToken({ kms, tokens }: Field): void {
  const { hsm } = parse(readFileSync(join(kms.home, 'kms.yaml'), 'utf8'));
  const pin = (name: string): string => readFileSync(join(kms.home, 'softhsm', name), 'utf8').trim();
  const pins = ['--so-pin', pin('so.pin'), '--pin', pin('user.pin')];
  const configuration = join(kms.home, 'softhsm', 'wrong.conf');
  writeFileSync(configuration, `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`);
  execFileSync('softhsm2-util', ['--init-token', '--free', '--label', hsm.tokenLabel, ...pins], {
    env: { PATH: process.env['PATH'], SOFTHSM2_CONF: configuration },
  });
  rmSync(configuration);
}

/** The same token as far as label, serial number and PINs go, without any key. */
function sameTokenWithoutKeys({ tokens }: Field, right: string): void {
  for (const name of readdirSync(right)) {
    mkdirSync(join(tokens, name));
    for (const file of readdirSync(join(right, name)).filter((each) => each.startsWith('token.'))) {
      cpSync(join(right, name, file), join(tokens, name, file));
    }
  }
}

// ---- C-3 to C-6: single calls, the slot, sessions, the login ----

const deviceErrors: Scenario = {
  name: 'C-3: one crypto call in twenty answers CKR_DEVICE_ERROR',
  fault: async (field) => {
    field.shim.set(CRYPTO_CALLS.map((name) => `${name} p=0.05 rv=0x30`));
    await sleep(faultMs());
    // A rate needs requests to be a rate of, however slow the machine is.
    await eventually('1,000 requests', () => made(field.during(), IDEMPOTENT).length >= 1000, 120_000);
    field.shim.clear();
  },
  recoveryMs: RECOVERY_MS,
  also: (field) => {
    expect(successRate(made(field.during(), IDEMPOTENT))).toBeGreaterThan(0.99);
  },
};

const tokenNotPresent: Scenario = {
  name: 'C-4: every call answers CKR_TOKEN_NOT_PRESENT',
  fault: async (field) => {
    const [initialised, started] = [field.calls('C_Initialize'), field.started()];
    await down(['* rv=0xe0'])(field);
    // Each process is replaced once, and tries with growing pauses: four times in the first four seconds.
    expect(field.started() - started).toBeLessThanOrEqual(field.processes);
    const lasted = (performance.now() - field.fault.fromMs) / 1000;
    expect(field.calls('C_Initialize') - initialised).toBeLessThanOrEqual(field.processes * (5 + lasted / 2));
  },
  recoveryMs: RECOVERY_MS,
  also: nothingServed,
};

/** Requests that are to be asked while sessions are lost. */
const ASKED = 100;

const sessionsLost: Scenario = {
  name: 'C-5: bursts of CKR_SESSION_HANDLE_INVALID for every open session',
  fault: async (field) => {
    const asked = (): number => made(field.during(), IDEMPOTENT).length;
    for (const end = performance.now() + faultMs(); performance.now() < end || asked() <= ASKED;) {
      field.shim.set(['* session-loss=1']);
      await sleep(500);
    }
    field.shim.clear();
  },
  recoveryMs: RECOVERY_MS,
  also: (field) => {
    const asked = made(field.during(), IDEMPOTENT);
    expect(asked.length).toBeGreaterThan(ASKED);
    // Each can be repeated on a new session, so no client learns of it.
    expect(described(field, asked.filter(({ status }) => status >= 500 || status === 0))).toEqual([]);
  },
};

const loggedOut: Scenario = {
  name: 'C-6: the module logs out in the middle of the load',
  fault: async (field) => {
    const [logins, started] = [field.calls('C_Login'), field.started()];
    await again(field, async () => {
      const before = field.shim.counts();
      field.shim.set(['* logout=1']);
      await eventually('somebody was logged out', () => faults(field) > sum(before));
      // Long enough for every process under load, too short for a new one.
      await sleep(150);
      field.shim.clear();
      await eventually('a process is not ready', async () => (await field.readyProcesses()) < field.processes);
    });
    const fresh = field.started() - started;
    expect(fresh).toBeGreaterThan(0);
    expect(field.calls('C_Login') - logins).toBe(fresh);
  },
  recoveryMs: RECOVERY_MS,
};

function faults(field: Field): number {
  return sum(field.shim.counts());
}

function sum(counts: ReadonlyMap<string, { readonly faults: number }>): number {
  return [...counts.values()].reduce((total, count) => total + count.faults, 0);
}

// ---- C-7 to C-9: a restarted HSM, no memory, a wrong PIN ----

/** The HSM restarts, and nobody is told: what a handle denotes now is another object, or none. */
function renumbered(how: 'another object' | 'no object', rule: string): Scenario {
  return {
    name: `C-7: the HSM restarts silently, and each handle denotes ${how}`,
    handles: 'may-move',
    fault: async (field) => {
      await again(field, async () => {
        field.shim.set([rule]);
        await sleep(200);
        field.shim.clear();
        await sleep(800);
      });
    },
    recoveryMs: RECOVERY_MS,
  };
}

/** Creations that are to be refused. */
const CREATIONS = 5;

/** Asked and answered during the fault. */
function creationsDuring(field: Field): readonly Entry[] {
  const { toMs } = field.fault;
  return made(field.during(), new Set<Act>(['create'])).filter(({ endedMs }) => endedMs < (Number.isNaN(toMs) ? performance.now() : toMs));
}

const noMemory: Scenario = {
  name: 'C-8: creations answer CKR_HOST_MEMORY and CKR_DEVICE_MEMORY, also after the object was made',
  fault: async (field) => {
    const refused = (): number => creationsDuring(field).length;
    field.shim.set(['C_GenerateKey rv=0x2', 'C_GenerateKeyPair rv=0x31']);
    await sleep(faultMs() / 2);
    await eventually('creations are refused', () => refused() > CREATIONS / 2);
    field.shim.set(['C_GenerateKey rv=0x31 after=forward', 'C_GenerateKeyPair rv=0x2 after=forward']);
    await sleep(faultMs() / 2);
    await eventually('creations are refused after they were made', () => refused() > CREATIONS);
    field.shim.clear();
  },
  recoveryMs: RECOVERY_MS,
  also: async (field) => {
    const creations = creationsDuring(field);
    expect(creations.length).toBeGreaterThan(CREATIONS);
    expect(new Set(creations.map(({ status }) => status))).toEqual(new Set([503]));
    expect(described(field, made(field.during(), IDEMPOTENT).filter(({ status }) => status >= 500 || status === 0))).toEqual([]);
    await field.load.stop();
    // Nothing half-made is left to the reconciler, either.
    expect(readStore(field.kms.home).intents).toEqual([]);
  },
};

const wrongPin: Scenario = {
  name: 'C-9: the PIN is wrong when four processes log in again',
  settings: { KMS_SERVER_PROCESSES: '4' },
  fault: async (field) => {
    const right = readFileSync(field.pinFile);
    const logins = field.calls('C_Login');
    field.shim.set(['C_Login pin-fail=1', '* logout=1']);
    await field.unready();
    await eventually('the PIN is the reason', async () => String((await field.readiness()).checks['token']).includes('pin'));
    await field.lastsDown(faultMs());
    expect(field.calls('C_Login') - logins).toBe(1);
    // The token would take the PIN again; nobody may find out before its source has changed.
    field.shim.clear();
    await field.staysDown(3000);
    expect(field.calls('C_Login') - logins).toBe(1);
    expect((await field.readiness()).checks['token']).toContain('pin');
    writeFileSync(field.pinFile, right);
  },
  recoveryMs: RECOVERY_MS,
  also: nothingServed,
};

// ---- C-10, C-11: slow, and never ----

const QUEUE_MAX = 8;
/** Requests that are to be refused because the queue is full. */
const SHED = 10;
const shed = (field: Field): number =>
  field.during().filter(({ status, json }) => status === 503 && json?.error_id === 'overloaded').length;
/** A process that has answered for a while grows by less than this, however slow the token is. */
const GROWTH_BYTES = 96 * 1024 * 1024;

const slow: Scenario = {
  name: 'C-10: each call takes 200 ms, then 3 s',
  settings: { KMS_HSM_QUEUE_MAX: String(QUEUE_MAX) },
  clients: 40,
  fault: async (field) => {
    const before = field.memory();
    let most = 0;
    for (const delay of [200_000, 3_000_000]) {
      field.shim.set(WORKING_CALLS.map((name) => `${name} delay=${delay}`));
      const end = performance.now() + faultMs() / 2;
      while (performance.now() < end) {
        most = Math.max(most, field.memory());
        await sleep(250);
      }
    }
    await eventually('more than the queue holds was asked for', () => shed(field) > SHED);
    field.shim.clear();
    expect(most - before).toBeLessThan(GROWTH_BYTES);
  },
  recoveryMs: RECOVERY_MS,
  also: (field) => {
    expect(shed(field)).toBeGreaterThan(SHED);
    expect(made(field.during(), CRYPTO).filter(succeeded).length).toBeGreaterThan(0);
  },
};

const CALL_TIMEOUT_MS = 2000;
const HANG_SETTINGS = { KMS_HSM_CALL_TIMEOUT_MS: String(CALL_TIMEOUT_MS), KMS_HSM_CREATE_TIMEOUT_MS: '4000' };

/** H-11: whoever is refused learns so at the latest a second after the deadline of the call. */
function refusedInTime(field: Field): void {
  const late = made(field.during(), CRYPTO).filter(({ sentMs, endedMs, status }) =>
    status === 503 && endedMs - sentMs > CALL_TIMEOUT_MS + 1000);
  expect(described(field, late)).toEqual([]);
}

const oneHangs: Scenario = {
  name: 'C-11: one C_Sign of each process never returns',
  settings: HANG_SETTINGS,
  fault: async (field) => {
    const asking = field.askingAllTheTime(3, () => decrypt(field.recorder.sealed[0]!));
    field.shim.set(['C_Sign count=1 hang=1']);
    await sleep(faultMs());
    field.shim.set(['release']);
    await asking.stop();
  },
  recoveryMs: RECOVERY_FROM_HANG_MS,
  also: (field) => {
    refusedInTime(field);
    // Other keys are served meanwhile. The load cannot show it: sooner or later each of its clients asks for a signature.
    const { fromMs, toMs } = field.fault;
    const others = field.during().filter(({ act, asked, status }) => act === 'decrypt' && asked.key === field.recorder.sealed[0]?.key && status === 200);
    for (let at = fromMs; at + 2000 <= toMs; at += 2000) {
      expect(others.filter(({ endedMs }) => endedMs >= at && endedMs < at + 2000).length).toBeGreaterThan(0);
    }
  },
};

const allHang: Scenario = {
  name: 'C-11: no call returns any more',
  settings: HANG_SETTINGS,
  fault: async (field) => {
    field.shim.set(['* hang=1']);
    await field.unready();
    await field.lastsDown(faultMs());
    field.shim.set(['release']);
  },
  recoveryMs: RECOVERY_FROM_HANG_MS,
  also: (field) => {
    refusedInTime(field);
    expect(described(field, field.whileDown().filter((entry) => succeeded(entry) && !NEEDS_NO_TOKEN.has(entry.act)))).toEqual([]);
  },
};

// ---- C-12: wrong results ----

/** @param trigger what makes the service look */
function wrongResults(when: string, call: string, settings: Readonly<Record<string, string>>, trigger: (field: Field) => void): Scenario {
  return {
    name: `C-12: ${call} gives wrong results; found by the self-test ${when}`,
    settings,
    wrongResults: true,
    fault: async (field) => {
      field.shim.set([`${call} corrupt=flip`]);
      trigger(field);
      await field.unready();
      await field.lastsDown(faultMs());
      field.shim.clear();
    },
    recoveryMs: RECOVERY_MS,
    also: nothingServed,
  };
}

const onDemand = (call: string): Scenario => wrongResults('on demand', call, {}, selfTestNow);
const periodic = (call: string): Scenario => wrongResults('at regular times', call, { KMS_HSM_SELF_TEST_SECONDS: '3' }, () => undefined);

/** Design §3: protect is encrypt, wrap, sign and data key. */
const PROTECT: ReadonlySet<Act> = new Set(['encrypt', 'dataKey', 'create', 'sign']);

const constantGenerator: Scenario = {
  name: 'C-12: C_GenerateRandom is constant',
  fault: async (field) => {
    field.shim.set(['C_GenerateRandom corrupt=constant']);
    await field.unready();
    await field.lastsDown(faultMs());
    field.shim.clear();
  },
  recoveryMs: RECOVERY_MS,
  also: (field) => {
    const asked = made(field.whileDown(), PROTECT);
    expect(asked.length).toBeGreaterThan(10);
    expect(described(field, asked.filter(succeeded))).toEqual([]);
    expect(repeatedIvs(field)).toEqual([]);
  },
};

function refusedProtection(field: Field): readonly Entry[] {
  return made(field.during(), PROTECT).filter(({ status }) => status === 503);
}

/** What no self-test of a moment finds: the watch over the IVs must. */
const repeatingGenerator: Scenario = {
  name: 'C-12: C_GenerateRandom repeats itself now and then',
  fault: async (field) => {
    field.shim.set(['C_GenerateRandom p=0.05 corrupt=constant']);
    await field.lasts(faultMs());
    await eventually('a repetition is noticed', () => refusedProtection(field).length > 0);
    field.shim.clear();
  },
  recoveryMs: RECOVERY_MS,
  also: (field) => {
    expect(refusedProtection(field).length).toBeGreaterThan(0);
    expect(repeatedIvs(field)).toEqual([]);
  },
};

/** Ciphertexts of one process with the IV of an earlier one. */
function repeatedIvs({ kms, recorder }: Field): readonly string[] {
  const processes = processOf(auditRecords(kms));
  const seen = new Set<string>();
  return recorder.sealed.flatMap(({ ciphertext, entry }) => {
    const iv = `${processes.get(entry.id) ?? 0} ${ciphertext.split('.')[2] ?? ''}`;
    if (seen.has(iv)) return [recorder.describe(entry)];
    seen.add(iv);
    return [];
  });
}

/** Grouped so that the files take about the same time. */
export const SCENARIOS = {
  tokens: [
    tokenAway,
    replaced('an empty directory', () => undefined),
    replaced('another token', otherToken),
    replaced('a token without its keys', sameTokenWithoutKeys),
  ],
  calls: [noFault, deviceErrors, tokenNotPresent, sessionsLost, loggedOut],
  states: [renumbered('another object', '* renumber=1'), renumbered('no object', '* renumber=invalid'), noMemory, wrongPin],
  time: [slow, oneHangs, allHang],
  results: [onDemand('C_Encrypt'), onDemand('C_Sign')],
  laterResults: [periodic('C_Encrypt'), periodic('C_Sign'), constantGenerator, repeatingGenerator],
} as const satisfies Readonly<Record<string, readonly Scenario[]>>;
