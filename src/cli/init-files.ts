/**
 * Files of a new $KMS_HOME: token configuration, PINs, settings, client files. Written with the mode they keep;
 * secrets are random and never pass through an argument list.
 */

import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { loadConfig } from '../config.ts';
import { paths, writeWhole } from '../home.ts';
import type { Plan } from './init-plan.ts';

export function makeDirectories(home: string): void {
  mkdirSync(home, { recursive: true, mode: 0o700 });
  for (const name of ['softhsm', 'softhsm/tokens', 'audit', 'tls', 'clients']) {
    mkdirSync(join(home, name), { recursive: true, mode: 0o700 });
  }
}

/** Gives streams of a run that was cut short a dot in front: readers take them for none. Their audit key is gone. */
export function setAsideStreams(home: string): void {
  const directories = (path: string): readonly string[] =>
    readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
      .map(({ name }) => name);
  for (const host of directories(paths.audit(home))) {
    const path = join(paths.audit(home), host);
    for (const boot of directories(path)) renameSync(join(path, boot), join(path, `.${boot}`));
  }
}

/** @param template the repository's softhsm2.conf @param tokens directory of the tokens, the home's own by default */
export function writeTokenConfiguration(home: string, template: string, tokens = paths.tokens(home)): void {
  const text = readFileSync(template, 'utf8').replaceAll('@TOKENDIR@', tokens);
  writeWhole(paths.tokenConfiguration(home), text, 0o600);
}

/** PINs of 24 characters, 144 random bits; existing ones stay. */
export function writePins(home: string): void {
  for (const path of [paths.userPin(home), paths.soPin(home)]) {
    if (!existsSync(path)) writeWhole(path, randomBytes(18).toString('base64url'), 0o400);
  }
}

export const SETTINGS_HEADER = `# Settings of this installation's host. What is not here has the default documented in src/config.ts;
# each can also be given in the environment, as KMS_SERVER_PROCESSES for server.processes.
`;

/** @param existing what becomes of settings that are there: all but the host's id may be what a run that failed was told */
export function writeSettings(home: string, tokenLabel: string, { hsm, ...others }: Plan['settings'], existing: 'keep' | 'replace'): void {
  const path = join(home, 'kms.yaml');
  if (existsSync(path) && existing === 'keep') return;
  const hostId = existsSync(path) ? loadConfig({ KMS_HOME: home }).hostId : randomBytes(8).toString('hex');
  writeWhole(path, SETTINGS_HEADER + stringify({ hostId, hsm: { ...hsm, tokenLabel }, ...others }), 0o600);
}

export interface ClientFacts {
  readonly okmsId: string;
  readonly vaultName: string;
  readonly endpoint: string;
  readonly vaultUrl: string;
}

/** For scripts: admin.json; for okms-cli: okms.yaml. Rewritten whenever the endpoint changed. Where the key is elsewhere, its path is to be filled in. */
export function writeClientConfiguration(home: string, facts: ClientFacts): void {
  const files = {
    ca: paths.serverCa(home),
    cert: paths.client(home, 'admin.pem'),
    key: paths.client(home, 'admin.key'),
  };
  writeWhole(paths.client(home, 'admin.json'), `${JSON.stringify({ ...facts, ...files }, null, 2)}\n`, 0o600);
  const http = {
    endpoint: facts.endpoint,
    ca: files.ca,
    auth: { type: 'mtls', cert: files.cert, key: files.key, okmsId: facts.okmsId },
  };
  const okms = { version: 1, profile: 'default', default: { http } };
  writeWhole(join(home, 'okms.yaml'), stringify(okms), 0o600);
}
