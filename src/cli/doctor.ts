/**
 * `kms doctor`: looks at everything a start needs and says what is missing and how to cure it. Reads only; makes no
 * login, so it cannot use up PIN tries.
 */

import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { X509Certificate } from 'node:crypto';
import { join, resolve } from 'node:path';
import { type Config, loadConfig } from '../config.ts';
import { paths, profilePath } from '../home.ts';
import type { Installation } from '../keys/key.ts';
import { openStore } from '../parts.ts';
import { type ModuleInventory, takeInventory } from '../pkcs11/inventory.ts';
import { readPin } from '../pkcs11/pin-file.ts';
import { loadProfile, type Profile } from '../pkcs11/token.ts';


export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly found: string;
  /** What to do; only when not ok. */
  readonly cure?: string;
}

export interface DoctorReport {
  readonly ok: boolean;
  readonly checks: readonly Check[];
  readonly module: ModuleInventory | null;
}

/** Mechanisms without which a whole family of operations is missing. */
const NEEDED = [
  'AES_KEY_GEN', 'AES_GCM', 'GENERIC_SECRET_KEY_GEN', 'SHA256_HMAC',
  'RSA_PKCS_KEY_PAIR_GEN', 'RSA_PKCS', 'RSA_PKCS_PSS', 'RSA_PKCS_OAEP', 'EC_KEY_PAIR_GEN', 'ECDSA',
];

export async function diagnose(environment: NodeJS.ProcessEnv): Promise<DoctorReport> {
  const config = loadConfig(environment);
  const checks: Check[] = [await checked('home', () => checkHome(config))];
  const profile = loadProfile(profilePath(config.hsm.profile), { KMS_HOME: config.home });
  checks.push(await checked('PIN file', () => checkPin(config)));
  checks.push(await checked('PKCS#11 module', () => checkModule(profile)));
  const module = inventoryOrNull(profile);
  const installation = await installationOrNull(config);
  checks.push(await checked('store', () => checkStore(config)));
  checks.push(await checked('clock', () => checkClock(config)));
  checks.push(await checked('seals and anchor', unchecked));
  checks.push(await checked('token', () => checkToken(module, installation)));
  checks.push(await checked('mechanisms', () => checkMechanisms(module, installation)));
  checks.push(await checked('server certificate', () => checkCertificate(config)));
  return { ok: checks.every(({ ok }) => ok), checks, module };
}

type Finding = Omit<Check, 'name'>;

function fine(found: string): Finding {
  return { ok: true, found };
}

function wrong(found: string, cure: string): Finding {
  return { ok: false, found, cure };
}

async function checked(name: string, run: () => Finding | Promise<Finding>): Promise<Check> {
  try {
    return { name, ...(await run()) };
  } catch (error) {
    return { name, ...wrong(error instanceof Error ? error.message : String(error), 'see the message') };
  }
}

function checkHome({ home }: Config): Finding {
  try {
    accessSync(join(home, 'kms.yaml'), constants.R_OK);
    return fine(home);
  } catch {
    return wrong(`${home} holds no kms.yaml`, 'run kms init --dev, or set KMS_HOME');
  }
}

function checkPin({ home, hsm }: Config): Finding {
  const path = resolve(home, hsm.pinFile);
  const { mode } = statSync(path);
  if ((mode & 0o077) !== 0) return wrong(`${path} is readable by others`, `chmod 0400 ${path}`);
  readPin(path);
  return fine(path);
}

function checkModule({ name, module }: Profile): Finding {
  accessSync(module, constants.R_OK);
  const mode = statSync(module).mode & 0o022;
  if (mode !== 0) return wrong(`${module} can be written by others`, `chmod go-w ${module}`);
  return fine(`${module} (profile ${name})`);
}

function inventoryOrNull(profile: Profile): ModuleInventory | null {
  try {
    return takeInventory(profile);
  } catch {
    return null;
  }
}

async function installationOrNull(config: Config): Promise<Installation | null> {
  try {
    const store = await openStore(config, 'doctor');
    try {
      return (await store.installation()) ?? null;
    } finally {
      await store.close();
    }
  } catch {
    return null;
  }
}

async function checkStore(config: Config): Promise<Finding> {
  const store = await openStore(config, 'doctor');
  try {
    await store.ping();
    if ((await store.installation()) === undefined) return wrong('no installation in the store', 'run kms init --dev');
    const place = config.store.url === '' ? paths.store(config.home) : 'PostgreSQL';
    return fine(`${place}, schema of this program, ${await store.countLiveKeys()} keys`);
  } finally {
    await store.close();
  }
}

/** Leases, dates and the order of changes go by the database's clock. */
const CLOCKS_MS = 2000;

async function checkClock(config: Config): Promise<Finding> {
  if (config.store.url === '') return fine('the store has the clock of this host');
  const store = await openStore(config, 'doctor');
  try {
    const before = Date.now();
    const theirs = await store.nowMs();
    const after = Date.now();
    // The answer was made at some moment between the two.
    const apart = Math.max(before - theirs, theirs - after, 0);
    if (apart > CLOCKS_MS) return wrong(`${Math.round(apart / 1000)} s from the database's`, 'set the clocks of both hosts by NTP');
    return fine(`within ${CLOCKS_MS / 1000} s of the database's`);
  } finally {
    await store.close();
  }
}

/** Head, journal and anchor are checked with keys of the token, and the doctor makes no login. */
function unchecked(): Finding {
  return fine('not checked: needs a login; kms serve checks them at start, kms reconcile --report at any time');
}

function checkToken(module: ModuleInventory | null, installation: Installation | null): Finding {
  if (module === null) return wrong('the module cannot be initialised', 'check the environment the profile names');
  if (installation === null) return wrong('unknown before there is an installation', 'run kms init --dev');
  const { tokenLabel, tokenSerial } = installation;
  const token = module.tokens.find(({ label, serial }) => label === tokenLabel && serial === tokenSerial);
  if (token === undefined) {
    const seen = module.tokens.map(({ label }) => label).join(', ') || 'none';
    return wrong(`token ${tokenLabel} (serial ${tokenSerial}) not found; tokens: ${seen}`, 'bring back the token');
  }
  return fine(`${token.label}, serial ${token.serial}, ${token.model} ${token.firmware}`);
}

function checkMechanisms(module: ModuleInventory | null, installation: Installation | null): Finding {
  const token = module?.tokens.find(({ label }) => label === installation?.tokenLabel);
  if (token === undefined) return wrong('no token to ask', 'see above');
  const missing = NEEDED.filter((name) => !token.mechanisms.includes(name));
  if (missing.length > 0) return wrong(`missing: ${missing.join(', ')}`, 'the algorithms concerned answer 501');
  return fine(`${token.mechanisms.length} offered, none missing`);
}

const SOON_MS = 30 * 86_400_000;

function checkCertificate({ home }: Config): Finding {
  const { validTo } = new X509Certificate(readFileSync(paths.serverCertificate(home)));
  const left = Date.parse(validTo) - Date.now();
  return left > SOON_MS ? fine(`valid until ${validTo}`) : wrong(`ends ${validTo}`, 'issue a new server certificate');
}
