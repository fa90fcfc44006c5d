/**
 * `kms init`: makes an installation, once. Token, internal keys with their proofs, CAs with their keys in the token,
 * server certificate, vaults, and the first administrator. The row that makes the installation valid is written last;
 * what an interrupted run left is used or removed by the next. Never touches another token.
 */

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { tokenOptions, tokenSetup } from '../app.ts';
import { openAuditLog } from '../audit/log.ts';
import { authority } from '../auth/client-certificate.ts';
import {
  ACCESS_DAYS_MAX,
  type CertificateSigner,
  type Issuer,
  issueAccessCertificate,
  issueAuthority,
  issueServerCertificate,
} from '../auth/issue-certificate.ts';
import { randomHex } from '../bytes.ts';
import { type Config, loadConfig } from '../config.ts';
import { makeInternalKey, signWithInternalKey } from '../crypto/internal-keys.ts';
import { KmsError } from '../errors.ts';
import { paths } from '../home.ts';
import type { InternalKey, InternalKeyName, Vault } from '../keys/key.ts';
import { labelPrefixes, Token } from '../pkcs11/token.ts';
import { migrateSqlite, openSqliteStore } from '../store/sqlite.ts';
import type { KeyStore } from '../store/store.ts';
import {
  makeDirectories,
  writeClientConfiguration,
  writePins,
  writePkcs12,
  writeSettings,
  writeTokenConfiguration,
  writeWhole,
} from './init-files.ts';
import { underInitLock } from './init-lock.ts';

const INTERNAL_KEYS: readonly InternalKeyName[] = [
  'canary',
  'integrity',
  'audit',
  'import',
  'access-ca',
  'server-ca',
  'token-issuer',
];
const STOP_MS = 2000;
const CA_DAYS = 3650;
const SERVER_DAYS = 825;
/** So that a person can import the file into a browser; the operating contract names it. */
const DEV_P12_PASSWORD = 'changeit';

export interface InitReport {
  readonly created: boolean;
  readonly home: string;
}

/** @param say tells the person at the terminal what is going on */
export async function initDev(home: string, say: (line: string) => void): Promise<InitReport> {
  makeDirectories(home);
  return underInitLock(home, async () => {
    await migrateSqlite(paths.store(home));
    const store = await openSqliteStore(paths.store(home));
    try {
      const created = (await store.installation()) === undefined;
      if (created) await makeInstallation(home, store, say);
      await refreshClientFiles(loadConfig({ ...process.env, KMS_HOME: home }), store);
      return { created, home };
    } finally {
      await store.close();
    }
  });
}

async function makeInstallation(home: string, store: KeyStore, say: (line: string) => void): Promise<void> {
  const pending = pendingInstallation(home);
  writeTokenConfiguration(home, new URL('../../softhsm2.conf', import.meta.url).pathname);
  writePins(home);
  writeSettings(home, pending.tokenLabel);
  await create(loadConfig({ ...process.env, KMS_HOME: home }), store, pending, say);
  rmSync(pendingPath(home), { force: true });
}

interface Pending {
  readonly installation: string;
  readonly tokenLabel: string;
}

function pendingPath(home: string): string {
  return join(home, 'init.pending');
}

/** Ids are chosen and durable before the token is touched: an interrupted run goes on with the same token. */
function pendingInstallation(home: string): Pending {
  const path = pendingPath(home);
  if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8')) as Pending;
  const installation = randomUUID();
  const pending = { installation, tokenLabel: `kms-${installation.slice(0, 8)}` };
  writeWhole(path, JSON.stringify(pending), 0o600);
  return pending;
}

async function create(config: Config, store: KeyStore, pending: Pending, say: (line: string) => void): Promise<void> {
  say(`token ${pending.tokenLabel}: initialising`);
  const { token, ready } = provisioningToken(config, pending);
  try {
    const tokenSerial = await ready;
    // An interrupted run may have left some; nothing refers to them.
    await token.destroy(token.objectIds());
    const keys: InternalKey[] = [];
    for (const name of INTERNAL_KEYS) {
      say(`internal key ${name}: generating`);
      keys.push(await makeInternalKey(token, labelPrefixes(pending.installation).internal, name));
    }
    await commit({ config, store, pending, token, keys, tokenSerial });
    say('certificates, vaults and administrator: written');
  } finally {
    await token.stop(STOP_MS);
  }
}

/** A token that is made if need be, and on which this run may destroy internal keys of its own installation. */
function provisioningToken(config: Config, { installation, tokenLabel }: Pending): {
  readonly token: Token;
  readonly ready: Promise<string>;
} {
  const { internal } = labelPrefixes(installation);
  let token: Token | undefined;
  const ready = new Promise<string>((resolve, reject) => {
    token = new Token({
      ...tokenOptions(config),
      labelPrefixes: { keys: internal, internal },
      setup: {
        ...tokenSetup(config),
        tokenLabel,
        tokenSerial: null,
        canary: null,
        provision: { soPinFile: paths.soPin(config.home) },
      },
      onLost: (reason) => { reject(new KmsError('token-unavailable', `the token was lost: ${reason}`)); },
      onState: (state) => {
        if (state.phase === 'ready') resolve(state.serial);
        else reject(new KmsError('token-unavailable', `the token cannot be used: ${state.reason}`));
      },
    });
  });
  if (token === undefined) throw new KmsError('internal', 'no token');
  return { token, ready };
}

interface Making {
  readonly config: Config;
  readonly store: KeyStore;
  readonly pending: Pending;
  readonly token: Token;
  readonly keys: readonly InternalKey[];
  readonly tokenSerial: string;
}

async function commit(making: Making): Promise<void> {
  const { config, store, pending, keys, tokenSerial } = making;
  const now = Date.now();
  const access = await makeAuthority(making, 'access-ca', 'CCMUsersCA', now);
  const server = await makeAuthority(making, 'server-ca', 'KMS development server CA', now);
  const vaults = devVaults(now);
  await writeServerCertificate(config.home, server, vaults, now);
  const [first] = vaults;
  if (first === undefined) throw new KmsError('internal', 'no vault');
  const credential = await issueAdministrator(config.home, access, first.id, now);
  writePkcs12(config.home, DEV_P12_PASSWORD);
  const installation = {
    id: pending.installation,
    kind: 'dev' as const,
    tokenLabel: pending.tokenLabel,
    tokenSerial,
    createdMs: now,
    internalKeys: keys,
    accessCa: access.certificate,
  };
  const assignment = {
    id: randomUUID(),
    method: 'certificate' as const,
    issuer: `urn:kms:${pending.installation}`,
    subject: credential.subject,
    role: 'owner',
    vaultId: null,
    keyId: null,
    createdMs: now,
  };
  await recordInAudit(making);
  await store.createInstallation({ installation, vaults, credentials: [credential], assignments: [assignment] });
}

async function makeAuthority(
  { config, token, keys, pending }: Making,
  name: 'access-ca' | 'server-ca',
  commonName: string,
  fromMs: number,
): Promise<Issuer> {
  const key = keys.find((candidate) => candidate.name === name);
  if (key?.publicKey === undefined || key.publicKey === null) throw new KmsError('internal', `no key ${name}`);
  const signer: CertificateSigner = {
    publicKey: key.publicKey,
    sign: (bytes) => signWithInternalKey(token, key, bytes),
  };
  const { pem } = await issueAuthority(signer, commonName, pending.installation, { fromMs, days: CA_DAYS });
  writeWhole(name === 'server-ca' ? paths.serverCa(config.home) : paths.accessCa(config.home), pem, 0o644);
  return { certificate: pem, signer };
}

/** The vaults of the operating contract (design §10). */
function devVaults(createdMs: number): readonly Omit<Vault, 'revision'>[] {
  const common = {
    softDeleteDays: 90,
    purgeProtection: false,
    compromiseRule: 'reversible',
    profile: 'standard',
    createdMs,
  } as const;
  const on = { cbc: true, rsa15: true, rsnull: true };
  const off = { cbc: false, rsa15: false, rsnull: false };
  return [
    { id: randomUUID(), name: 'dev', flavour: 'managed-hsm', backup: 'allowed', ...on, ...common },
    { id: randomUUID(), name: 'dev-premium', flavour: 'premium', backup: 'never', ...off, ...common },
  ];
}

/** A software key pair, as TLS needs one. The private half goes to a file and nowhere else. */
function writeKeyPair(path: string): Uint8Array {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeWhole(path, privateKey.export({ format: 'pem', type: 'pkcs8' }) as string, 0o600);
  return publicKey.export({ format: 'der', type: 'spki' });
}

async function writeServerCertificate(
  home: string,
  issuer: Issuer,
  vaults: readonly Pick<Vault, 'name'>[],
  fromMs: number,
): Promise<void> {
  const dns = ['localhost', ...vaults.map(({ name }) => `${name}.localhost`)];
  const hosts = [
    ...dns.map((value) => ({ type: 'dns' as const, value })),
    ...['127.0.0.1', '::1'].map((value) => ({ type: 'ip' as const, value })),
  ];
  const publicKey = writeKeyPair(paths.serverKey(home));
  const { pem } = await issueServerCertificate(issuer, hosts, publicKey, { fromMs, days: SERVER_DAYS });
  writeWhole(paths.serverCertificate(home), pem, 0o644);
}

async function issueAdministrator(
  home: string,
  issuer: Issuer,
  vaultId: string,
  fromMs: number,
): Promise<Parameters<KeyStore['createInstallation']>[0]['credentials'][number]> {
  const publicKey = writeKeyPair(paths.client(home, 'admin.key'));
  const issued = await issueAccessCertificate(issuer, vaultId, publicKey, { fromMs, days: ACCESS_DAYS_MAX });
  writeWhole(paths.client(home, 'admin.pem'), issued.pem, 0o644);
  return {
    issuerKeyHash: authority(issuer.certificate).keyHash,
    serial: issued.serial,
    vaultId,
    subject: 'admin',
    notAfterMs: issued.notAfterMs,
    createdMs: fromMs,
    revokedMs: null,
  };
}

/** Before the row: an installation without the record of its making cannot exist. */
async function recordInAudit({ config, pending, keys, tokenSerial }: Making): Promise<void> {
  const audit = await openAuditLog({ directory: paths.audit(config.home), hostId: config.hostId, bootId: randomHex(8) });
  await audit.append({
    event: 'installation.create',
    result: 'success',
    objectIds: keys.map(({ objectId }) => objectId),
    detail: { installation: pending.installation, kind: 'dev', tokenLabel: pending.tokenLabel, tokenSerial },
  });
  await audit.close();
}

/** The port may have been changed since. */
async function refreshClientFiles(config: Config, store: KeyStore): Promise<void> {
  const [vault] = await store.vaults();
  if (vault === undefined) return;
  const endpoint = `https://localhost:${config.server.port}`;
  writeClientConfiguration(config.home, { okmsId: vault.id, vaultName: vault.name, endpoint, vaultUrl: endpoint });
}
