/** PKCS#12 (RFC 7292), so that browsers and Java can take a certificate with its key. */

import { spawnSync } from 'node:child_process';
import { renameSync, rmSync } from 'node:fs';
import { KmsError } from '../errors.ts';

/** Paths. */
export interface Pkcs12Files {
  readonly key: string;
  readonly certificate: string;
  readonly ca: string;
  readonly out: string;
}

/**
 * By openssl: the key through a file, the password through standard input.
 * @param name as browsers show it
 * @throws KmsError `internal` with openssl's own message
 */
export function writePkcs12({ key, certificate, ca, out }: Pkcs12Files, name: string, password: string): void {
  const run = spawnSync(
    'openssl',
    ['pkcs12', '-export', '-inkey', key, '-in', certificate, '-certfile', ca, '-name', name, '-out', `${out}.new`, '-passout', 'stdin'],
    { input: `${password}\n`, encoding: 'utf8' },
  );
  if (run.status === 0) {
    renameSync(`${out}.new`, out);
    return;
  }
  rmSync(`${out}.new`, { force: true });
  throw new KmsError('internal', `openssl pkcs12 failed: ${run.stderr || String(run.error)}`);
}
