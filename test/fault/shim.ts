/**
 * Drives the fault shim: a PKCS#11 module that forwards to a real one and fails on demand. Rules go into a control file
 * that running processes follow within milliseconds; `rules.c` describes the language. `make test` builds the modules.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { parseDocument } from 'yaml';

const here = import.meta.dirname;

/** A process uses these in place of the real module. */
export const FAULT_MODULE = resolve(here, '../../build/fault/libkmsfault.so');
/** NSS in FIPS mode; needs the Debian package libnss3. */
export const NSS_FIPS_MODULE = resolve(here, '../../build/fault/libnssfips.so');

export interface Count {
  readonly calls: number;
  /** Calls a rule changed, delayed ones included, or that the state a rule left behind made fail. */
  readonly faults: number;
}

export class FaultShim {
  readonly #directory: string;
  readonly #module: string;
  #written = 0;

  /**
   * @param directory for the control file, the counts and profiles; made when it is missing
   * @param realModule absolute path, or a name the dynamic linker finds
   */
  constructor(directory: string, realModule: string) {
    if (!existsSync(FAULT_MODULE)) throw new Error(`${FAULT_MODULE} is missing; make build/fault makes it`);
    this.#directory = directory;
    this.#module = realModule;
    mkdirSync(join(directory, 'counts'), { recursive: true });
    this.clear();
  }

  /** What a process that loads `FAULT_MODULE` needs in its environment. */
  environment(): Record<string, string> {
    return {
      KMS_FAULT_MODULE: this.#module,
      KMS_FAULT_CONTROL: join(this.#directory, 'control'),
      KMS_FAULT_COUNTS: join(this.#directory, 'counts'),
    };
  }

  /**
   * Writes a copy of an HSM profile whose module is the shim.
   *
   * @param extra further variables, such as KMS_FAULT_LATENCY_US
   * @returns the path of the copy, which has the name of the original
   */
  profile(basePath: string, extra: Readonly<Record<string, string>> = {}): string {
    const document = parseDocument(readFileSync(basePath, 'utf8'));
    document.set('module', FAULT_MODULE);
    const added = { ...this.environment(), ...extra };
    for (const [name, value] of Object.entries(added)) document.setIn(['environment', name], value);
    const path = join(this.#directory, basename(basePath));
    writeFileSync(path, document.toString());
    return path;
  }

  /**
   * Replaces all rules. Every call that begins 2 ms after the return goes by the new ones.
   *
   * @throws TypeError when a rule is not in the language
   */
  set(rules: readonly string[]): void {
    rules.forEach(check);
    const path = join(this.#directory, 'control');
    writeFileSync(`${path}.new`, `${rules.join('\n')}\n`);
    // The inode may be that of an earlier file, and two files of one clock tick would have one time.
    this.#written = Math.max(this.#written + 1, Date.now());
    utimesSync(`${path}.new`, this.#written / 1000, this.#written / 1000);
    renameSync(`${path}.new`, path);
  }

  /** No rules. What the earlier ones left behind stays: renumbered handles, lost sessions, a log-out, calls that hang. */
  clear(): void {
    this.set([]);
  }

  /** By function, summed over every process that used this directory; functions never called are left out. */
  counts(): ReadonlyMap<string, Count> {
    const sums = new Map<string, Count>();
    for (const file of readdirSync(join(this.#directory, 'counts'))) {
      const bytes = readFileSync(join(this.#directory, 'counts', file));
      for (let at = 0; at + SLOT <= bytes.length; at += SLOT) add(sums, bytes.subarray(at, at + SLOT));
    }
    return sums;
  }
}

/** Layout of a slot in counts.c, in the byte order of the machine: all that runs Node 20 on Linux but s390x. */
const SLOT = 64;
const NAME = 48;

function add(sums: Map<string, Count>, slot: Buffer): void {
  const name = slot.toString('latin1', 0, slot.indexOf(0));
  const calls = Number(slot.readBigUInt64LE(NAME));
  const faults = Number(slot.readBigUInt64LE(NAME + 8));
  const before = sums.get(name) ?? { calls: 0, faults: 0 };
  if (calls > 0) sums.set(name, { calls: before.calls + calls, faults: before.faults + faults });
}

const functions = [...readFileSync(join(here, 'pkcs11.h'), 'utf8').matchAll(/X\((C_\w+)/g)].map((match) => match[1] ?? '');

const VALUES: Readonly<Record<string, RegExp>> = {
  ...Object.fromEntries(['nth', 'from', 'to', 'count'].map((key) => [key, /^[1-9]\d*$/])),
  ...Object.fromEntries(['hang', 'crash', 'session-loss', 'logout', 'pin-fail', 'pass'].map((key) => [key, /^1$/])),
  p: /^(0|1|0?\.\d+|1\.0+)$/,
  delay: /^\d+$/,
  rv: /^(0x[0-9a-f]+|\d+)$/i,
  after: /^forward$/,
  corrupt: /^(flip|constant)$/,
  'own-iv': /^(init|encrypt|hidden|constant)$/,
  renumber: /^(1|invalid)$/,
  hide: /^(0x[0-9a-f]+|\d+)(,(0x[0-9a-f]+|\d+))*$/i,
};

const CONDITIONS: ReadonlySet<string> = new Set(['nth', 'from', 'to', 'count', 'p', 'after']);

/** The native reader passes over what it does not understand, and the test would prove nothing. */
function check(rule: string): void {
  const [name = '', ...pairs] = rule.trim().split(/[ \t]+/);
  if (name === '' || name.startsWith('#') || rule.trim() === 'release') return;
  const keys = pairs.map((pair) => {
    const [, key = '', value = ''] = /^([a-z-]+)=(.+)$/.exec(pair) ?? [];
    if (VALUES[key]?.test(value) !== true) throw new TypeError(`rule "${rule}": "${pair}" is not understood`);
    return key;
  });
  if (!keys.some((key) => !CONDITIONS.has(key))) throw new TypeError(`rule "${rule}" does nothing`);
  if (keys.includes('after') && !keys.includes('rv')) throw new TypeError(`rule "${rule}": after=forward needs rv`);
  const named = name.endsWith('*')
    ? functions.some((known) => known.startsWith(name.slice(0, -1)))
    : functions.includes(name) || (name === 'mech' && keys.every((key) => key === 'hide'));
  if (!named || /[\r\n]/.test(rule)) throw new TypeError(`rule "${rule}" names no function`);
}
