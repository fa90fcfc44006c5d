/** `kms audit verify`: needs the files and the public key, neither token nor store. */

import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type TreeReport, verifyTree } from '../audit/verify.ts';
import { invalidField } from '../errors.ts';
import { paths } from '../home.ts';

export interface AuditPlace {
  readonly publicKey?: string | undefined;
  readonly directory?: string | undefined;
}

/** @throws KmsError `invalid-field` if there is no usable public key, `audit-unavailable` if a file cannot be read */
export function verifyAudit(home: string, place: AuditPlace): Promise<TreeReport> {
  const publicKey = readPublicKey(place.publicKey ?? paths.auditKey(home));
  return verifyTree(place.directory ?? paths.audit(home), { publicKey });
}

function readPublicKey(path: string): Uint8Array {
  try {
    return createPublicKey(readFileSync(path)).export({ format: 'der', type: 'spki' });
  } catch {
    throw invalidField('--public-key', `expected a public key in PEM at ${path}`);
  }
}
