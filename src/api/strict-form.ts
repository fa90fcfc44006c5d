/**
 * The one check of a form before anybody looks into it (application/x-www-form-urlencoded as RFC 6749 appendix B has it):
 * ASCII, UTF-8 without errors below the encoding, no parameter twice. Pure.
 */

import { KmsError } from '../errors.ts';

/** Parameters without a value count as left out (RFC 6749 §3.2). @throws KmsError `malformed-request`, never quoting the text */
export function parseStrictForm(bytes: Uint8Array): Readonly<Record<string, string>> {
  const text = Buffer.from(bytes).toString('latin1');
  if (/[^\x21-\x7e]/.test(text)) throw malformed('expected printable ASCII');
  const parameters = text.split('&').filter((pair) => pair !== '').map(parsePair);
  const names = new Set(parameters.map(([name]) => name));
  if (names.size < parameters.length) throw malformed('duplicate parameter');
  return Object.fromEntries(parameters.filter(([, value]) => value !== ''));
}

function parsePair(pair: string): readonly [name: string, value: string] {
  const at = pair.indexOf('=');
  return at < 0 ? [decodeFormText(pair), ''] : [decodeFormText(pair.slice(0, at)), decodeFormText(pair.slice(at + 1))];
}

/** One name or value. @throws KmsError `malformed-request` */
export function decodeFormText(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    throw malformed('expected UTF-8 in percent-encoding');
  }
}

function malformed(expected: string): KmsError {
  return new KmsError('malformed-request', `the form is not acceptable: ${expected}`);
}
