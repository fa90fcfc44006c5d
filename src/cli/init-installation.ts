/**
 * The making of an installation: token, internal keys with their proofs, certificates, and last the row that makes it
 * valid, with its vaults and first administrator.
 */

import { createHash, createPublicKey, randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { openAuditLog } from '../audit/log.ts';
import type { Issuer } from '../auth/issue-certificate.ts';
import { issuerOf } from '../auth/principal.ts';
import { randomHex } from '../bytes.ts';
import { type Config, endpointOf } from '../config.ts';
import { Anchors } from '../crypto/anchor.ts';
import { deriveMacs, type Macs } from '../crypto/integrity-keys.ts';
import { makeInternalKey } from '../crypto/internal-keys.ts';
import { KmsError } from '../errors.ts';
import { paths, writeWhole } from '../home.ts';
import type { InternalKey, InternalKeyName } from '../keys/key.ts';
import { newVault } from '../keys/vaults.ts';
import { tokenOptions, tokenSetup } from '../parts.ts';
import { serverNames } from '../server-certificate.ts';
import { labelPrefixes, Token } from '../pkcs11/token.ts';
import type { KeyStore } from '../store/store.ts';
import { issueAdministrator, makeAuthority, makeServerCertificate } from './init-certificates.ts';
import { setAsideStreams, writeClientConfiguration } from './init-files.ts';
import { internalKeysOf, type Plan, type TokenPlan } from './init-plan.ts';
import { writePkcs12 } from './pkcs12.ts';
import { KEY_EPOCH, sealingParts, type Session } from './session.ts';

const STOP_MS = 2000;

/** Ids chosen before the token is touched. */
export interface Pending {
  readonly installation: string;
  readonly tokenLabel: string;
  readonly kind: Plan['kind'];
}

/** @param say tells the person at the terminal what is going on */
export async function makeInstallation(config: Config, store: KeyStore, pending: Pending, plan: Plan, say: (line: string) => void): Promise<void> {
  say(`token ${pending.tokenLabel}: ${plan.token.soPinFile === null ? 'looking for it' : 'initialising'}`);
  const { token, ready } = provisioningToken(config, pending, plan.token);
  try {
    const tokenSerial = await ready;
    // An interrupted run may have left some; nothing refers to them.
    await token.destroy(token.objectIds());
    setAsideStreams(config.home);
    const keys: InternalKey[] = [];
    for (const name of internalKeysOf(plan)) {
      say(`internal key ${name}: generating`);
      keys.push(await makeInternalKey(token, labelPrefixes(pending.installation).internal, name));
    }
    await commit({ config, store, pending, plan, token, keys, tokenSerial });
    say('certificates, vaults and administrator: written');
  } finally {
    await token.stop(STOP_MS);
  }
}

/** A token that is made if need be, and on which this run may destroy internal keys of its own installation. */
function provisioningToken(config: Config, { installation, tokenLabel }: Pending, { soPinFile }: TokenPlan): {
  readonly token: Token;
  readonly ready: Promise<string>;
} {
  const outcome = new EventEmitter();
  const ready = new Promise<string>((resolve, reject) => {
    outcome.on('ready', resolve);
    outcome.on('failed', (why: string) => { reject(new KmsError('token-unavailable', `the token cannot be used: ${why}`)); });
  });
  const token = new Token({
    ...tokenOptions(config),
    threads: 1,
    destroyable: labelPrefixes(installation).internal,
    setup: {
      ...tokenSetup(config),
      tokenLabel,
      tokenSerial: null,
      canary: null,
      provision: soPinFile === null ? null : { soPinFile },
    },
    mayLogin: () => Promise.resolve(),
    exclusively: (run) => run(),
    onLost: (reason) => outcome.emit('failed', reason),
    onState: (state) => (state.phase === 'ready' ? outcome.emit('ready', state.serial) : outcome.emit('failed', 'detail' in state ? state.detail : state.reason)),
  });
  return { token, ready };
}

interface Making {
  readonly config: Config;
  readonly store: KeyStore;
  readonly pending: Pending;
  readonly plan: Plan;
  readonly token: Token;
  readonly keys: readonly InternalKey[];
  readonly tokenSerial: string;
}

async function commit(making: Making): Promise<void> {
  const { config, store, pending, plan, token, keys, tokenSerial } = making;
  const now = Date.now();
  const ca = (name: 'access-ca' | 'server-ca', commonName: string, file: string): Promise<Issuer> =>
    makeAuthority(token, keyOf(keys, name), { commonName, installation: pending.installation }, now, file);
  const access = await ca('access-ca', 'CCMUsersCA', paths.accessCa(config.home));
  const server = await ca('server-ca', plan.serverCa, paths.serverCa(config.home));
  const vaults = plan.vaults.map((spec) => newVault(spec, now));
  await makeServerCertificate(config.home, server, serverNames(vaults, plan.names), now);
  const [first] = vaults;
  if (first === undefined) throw new KmsError('internal', 'no vault');
  const credential = await issueAdministrator(config.home, access, first.id, plan.administrator, now);
  const file = (name: string): string => paths.client(config.home, name);
  const p12 = { key: file('admin.key'), certificate: file('admin.pem'), ca: paths.accessCa(config.home), out: file('admin.p12') };
  const { p12Password } = plan.administrator;
  if (p12Password !== null) writePkcs12(p12, 'KMS administrator', p12Password);
  const installation = {
    id: pending.installation,
    kind: plan.kind,
    tokenLabel: pending.tokenLabel,
    tokenSerial,
    createdMs: now,
    internalKeys: keys,
    accessCa: access.certificate,
    serverCa: server.certificate,
  };
  const assignment = {
    id: randomUUID(),
    method: 'certificate' as const,
    issuer: issuerOf(pending.installation),
    subject: credential.subject,
    role: 'owner',
    permissions: null,
    vaultId: null,
    keyId: null,
    createdMs: now,
  };
  writeAuditKey(config, keys);
  const endpoint = endpointOf(config);
  writeClientConfiguration(config.home, { okmsId: first.id, vaultName: first.name, endpoint, vaultUrl: endpoint });
  const macs = await deriveMacs(token, keyOf(keys, 'integrity'), pending.installation, KEY_EPOCH);
  await recordInAudit(making, macs);
  const rows = { installation, vaults, credentials: [credential], assignments: [assignment] };
  await store.createInstallation(rows, macs);
  await writeFirstAnchor(new Anchors(token, pending.installation, macs.anchor), store);
}

/** Only here, by `kms migrate --to` and by `kms store accept-rollback` is an anchor made where there was none. */
async function writeFirstAnchor(anchors: Anchors, store: KeyStore): Promise<void> {
  const { storeId, epoch, seq, mac } = store.head();
  const auditHeads = createHash('sha256').digest();
  await anchors.write({ storeId, epoch, seq, journalMac: mac, auditHeads, writtenMs: Date.now() });
}

/** What a run left undone that was interrupted after its commit. */
export async function finishInstallation({ store, anchors, macs }: Session): Promise<void> {
  await store.unlock(macs);
  if ((await anchors.read()).highest === null) await writeFirstAnchor(anchors, store);
}

function keyOf(keys: readonly InternalKey[], name: InternalKeyName): InternalKey {
  const key = keys.find((candidate) => candidate.name === name);
  if (key === undefined) throw new KmsError('internal', `no internal key ${name}`);
  return key;
}

/** For verification without the token. */
export function writeAuditKey(config: Config, keys: readonly InternalKey[]): void {
  const key = createPublicKey({ key: Buffer.from(publicKeyOf(keys, 'audit')), format: 'der', type: 'spki' });
  writeWhole(paths.auditKey(config.home), key.export({ format: 'pem', type: 'spki' }) as string, 0o644);
}

function publicKeyOf(keys: readonly InternalKey[], name: InternalKeyName): Uint8Array {
  const { publicKey } = keyOf(keys, name);
  if (publicKey === null) throw new KmsError('internal', `internal key ${name} has no public half`);
  return publicKey;
}

/** Before the row: an installation without the record of its making cannot exist. */
async function recordInAudit({ config, pending, plan, token, keys, tokenSerial }: Making, macs: Macs): Promise<void> {
  const audit = await openAuditLog({ directory: paths.audit(config.home), hostId: config.hostId, bootId: randomHex(8) });
  audit.seal(sealingParts(token, { id: pending.installation, kind: plan.kind }, keys, macs, null));
  await audit.append({
    event: 'installation.create',
    result: 'success',
    objectIds: keys.map(({ objectId }) => objectId),
    detail: { installation: pending.installation, kind: plan.kind, tokenLabel: pending.tokenLabel, tokenSerial },
  });
  await audit.close();
}
