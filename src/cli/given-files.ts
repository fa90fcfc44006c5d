/** Files that the operator names: what is wrong with one is told by the option or member that named it. */

import { readFileSync } from 'node:fs';
import { invalidField } from '../errors.ts';

/** @param named option or member @throws KmsError `invalid-field` */
export function readGiven(named: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw invalidField(named, `${file} cannot be read: ${(error as NodeJS.ErrnoException).code ?? ''}`);
  }
}

/**
 * Of PKCS#12: the first line of the file.
 * @param named option or member @param hasKey false where the key is not here
 * @returns null where no file is named @throws KmsError `invalid-field`
 */
export function p12Password(named: string, file: string | undefined, hasKey: boolean): string | null {
  if (file === undefined) return null;
  if (!hasKey) throw invalidField(named, 'not possible with a certificate signing request: the key is not here');
  const [password = ''] = readGiven(named, file).split('\n');
  if (password === '') throw invalidField(named, 'expected a password in its first line');
  return password;
}
