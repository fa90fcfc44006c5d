/** What lies where in $KMS_HOME, and where the package keeps its HSM profiles. */

import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageFile } from './package.ts';

export const paths = {
  store: (home: string): string => join(home, 'kms.db'),
  audit: (home: string): string => join(home, 'audit'),
  /** Public key that audit checkpoints are verified with, PEM; kept beside the streams and copied with them. */
  auditKey: (home: string): string => join(home, 'audit', 'audit-key.pem'),
  /** Certificate of the CA that signs the server certificate. */
  serverCa: (home: string): string => join(home, 'tls', 'ca.pem'),
  accessCa: (home: string): string => join(home, 'tls', 'access-ca.pem'),
  serverCertificate: (home: string): string => join(home, 'tls', 'server.pem'),
  serverKey: (home: string): string => join(home, 'tls', 'server.key'),
  tokens: (home: string): string => join(home, 'softhsm', 'tokens'),
  tokenConfiguration: (home: string): string => join(home, 'softhsm', 'softhsm2.conf'),
  userPin: (home: string): string => join(home, 'softhsm', 'user.pin'),
  soPin: (home: string): string => join(home, 'softhsm', 'so.pin'),
  /** Written after a PIN error; stops every login until the PIN source changes. */
  pinLatch: (home: string): string => join(home, 'pin.latch'),
  /** A file of the first administrator. */
  client: (home: string, name: string): string => join(home, 'clients', name),
};

/** @param name of a file in hsm-config/, or the path of one */
export function profilePath(name: string): string {
  return name.includes('/') ? name : packageFile(`hsm-config/${name}.yaml`);
}

/** Replaces the file in one step, so that nobody reads half of it. */
export function writeWhole(path: string, content: string, mode: number): void {
  const temporary = `${path}.new`;
  rmSync(temporary, { force: true });
  writeFileSync(temporary, content, { mode, flush: true });
  renameSync(temporary, path);
}
