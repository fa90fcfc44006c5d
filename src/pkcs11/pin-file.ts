/**
 * The file with the PIN. What cannot be a PIN is found before C_Login: a real token counts each try, and locks for good.
 * Messages name the file and what is the matter, never the PIN or its length.
 */

import { readFileSync } from 'node:fs';
import { StartError } from './start-error.ts';

/** Bytes that a token takes (CK_TOKEN_INFO, ulMinPinLen and ulMaxPinLen). */
export interface PinLengths {
  readonly min: number;
  readonly max: number;
}

const ANY: PinLengths = { min: 1, max: Number.POSITIVE_INFINITY };

/** The PIN, UTF-8, and at most one line end. @throws StartError `pin-file` */
export function readPin(file: string, lengths: PinLengths = ANY): string {
  const pin = readText(file).replace(/\r?\n$/, '');
  const fault = pinFault(pin, lengths);
  if (fault !== undefined) throw new StartError('pin-file', 0, `the PIN file ${file} ${fault}`);
  return pin;
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new StartError('pin-file', 0, `the PIN file ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`);
  }
}

/** @returns what stands after "the PIN file …"; undefined for what may be a PIN */
export function pinFault(pin: string, { min, max }: PinLengths): string | undefined {
  if (pin === '') return 'is empty';
  if (pin.startsWith('\uFEFF')) return 'begins with a byte-order mark: expected the PIN alone';
  if (pin.includes('\uFFFD')) return 'is not UTF-8';
  if (/[\r\n]/.test(pin)) return 'has a line break in it: expected one line';
  if (/^\s|\s$/.test(pin)) return 'begins or ends with blanks: expected the PIN alone';
  const bytes = Buffer.byteLength(pin);
  if (bytes < min) return `holds less than the ${min} bytes that the token asks for`;
  if (bytes > max) return `holds more than the ${max} bytes that the token takes`;
  return undefined;
}
