/** The built-in issuer, as commands find it: in development installations only. */

import { isPrintable } from '../auth/access-token.ts';
import { builtInIssuer } from '../auth/built-in-issuer.ts';
import type { SigningIssuer } from '../auth/issue-access-token.ts';
import { endpointOf } from '../config.ts';
import { signWithInternalKey } from '../crypto/internal-keys.ts';
import { invalidField, KmsError } from '../errors.ts';
import type { Access } from './session.ts';

/** @throws KmsError `invalid-field` */
export function assertSubject(subject: string): void {
  if (!isPrintable(subject)) throw invalidField('--subject', 'expected 1 to 256 printable characters');
}

/** @throws KmsError `conflict` in `prod` */
export function issuerHere({ installation, config, token }: Access): SigningIssuer {
  const issuer = builtInIssuer(installation, endpointOf(config), (key, bytes) => signWithInternalKey(token, key, bytes));
  if (issuer !== null) return issuer;
  throw new KmsError('conflict', 'this installation has no built-in issuer of access tokens: it is not a development set-up');
}
