/**
 * `kms init --join`: makes the home of a further host of an installation. Checks that store and token are those of the
 * installation before it writes anything that lasts; makes no key and no anchor. The token itself, or the network HSM,
 * and its PIN are the operator's to provide.
 */

import { existsSync, rmSync, statSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { loadConfig } from '../config.ts';
import { internalKey } from '../crypto/internal-keys.ts';
import { KmsError } from '../errors.ts';
import { paths, writeWhole } from '../home.ts';
import { packageFile } from '../package.ts';
import { serverNames, tokenSigner } from '../server-certificate.ts';
import { underHomeLock } from './home-lock.ts';
import { makeServerCertificate } from './init-certificates.ts';
import { makeDirectories, SETTINGS_HEADER, writeTokenConfiguration } from './init-files.ts';
import { writeAuditKey } from './init-installation.ts';
import { type Session, withSession } from './session.ts';

export interface JoinOptions {
  /** PostgreSQL of the installation, without a password. */
  readonly store: string;
  /** File in hsm-config/, or the path of one. */
  readonly profile: string;
  /** File with the PIN; stays where it is. */
  readonly pinFile: string;
  /** Of SoftHSM: the directory that holds the token. */
  readonly tokenDirectory: string | undefined;
  /** Further DNS names and addresses for the server certificate. */
  readonly names: readonly string[];
}

/** @returns the new host's id @throws KmsError `conflict` when the home is in use; what does not fit otherwise */
export async function joinInstallation(home: string, options: JoinOptions): Promise<string> {
  assertNoPassword(options.store);
  if (!existsSync(resolve(options.pinFile))) throw new KmsError('invalid-field', `--pin-file: ${options.pinFile} cannot be read`);
  makeDirectories(home);
  return underHomeLock(home, 'init', async () => {
    const settings = join(home, 'kms.yaml');
    if (existsSync(settings)) throw new KmsError('conflict', `${home} holds an installation or host already`);
    if (options.tokenDirectory !== undefined) configureSoftHsm(home, options.tokenDirectory);
    const hostId = randomBytes(8).toString('hex');
    writeWhole(settings, SETTINGS_HEADER + stringify(settingsOf(hostId, options)), 0o600);
    try {
      await withSession(loadConfig({ ...process.env, KMS_HOME: home }), (session) => settle(session, options.names));
      return hostId;
    } catch (error) {
      rmSync(settings);
      throw error;
    }
  });
}

/** A secret in an argument list is everybody's. */
export function assertNoPassword(url: string): void {
  const { password } = readUrl(url);
  if (password !== '') throw new KmsError('invalid-field', 'the store URL must not hold a password here: use PGPASSWORD or the setting store.passwordFile');
}

function readUrl(url: string): URL {
  try {
    const read = new URL(url);
    if (read.protocol === 'postgres:' || read.protocol === 'postgresql:') return read;
  } catch {
    // Said below.
  }
  throw new KmsError('invalid-field', 'the store URL: expected postgres://user@host/database');
}

function configureSoftHsm(home: string, directory: string): void {
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    throw new KmsError('invalid-field', `--token-directory: ${directory} is no directory`);
  }
  writeTokenConfiguration(home, packageFile('softhsm2.conf'), resolve(directory));
}

/** The token is found by what the store says of it. */
function settingsOf(hostId: string, { store, profile, pinFile }: JoinOptions): object {
  return { hostId, hsm: { profile, pinFile: resolve(pinFile) }, store: { url: store } };
}

/** The token has shown its canary; store and anchor must fit it, and each other. */
async function settle({ config, store, macs, anchors, token, installation, audit }: Session, names: readonly string[]): Promise<void> {
  await store.unlock(macs);
  const { highest } = await anchors.read();
  const head = store.head();
  if (highest?.storeId !== head.storeId) throw new KmsError('integrity', 'the token holds no anchor of this store');
  const verdict = await store.examine({ epoch: highest.epoch, seq: highest.seq, mac: highest.journalMac });
  if (verdict !== 'consistent') throw new KmsError('integrity', `store and anchor do not fit: ${verdict}`);
  writeWhole(paths.serverCa(config.home), installation.serverCa, 0o644);
  writeWhole(paths.accessCa(config.home), installation.accessCa, 0o644);
  writeAuditKey(config, installation.internalKeys);
  const issuer = { certificate: installation.serverCa, signer: tokenSigner(token, internalKey(installation, 'server-ca')) };
  await makeServerCertificate(config.home, issuer, serverNames(await store.vaults(), names), Date.now());
  await audit.append({ event: 'host.join', result: 'success', detail: { host: config.hostId } });
}
