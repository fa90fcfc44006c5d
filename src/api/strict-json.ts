/**
 * The one check of a JSON text before anybody looks into it (security S-18): UTF-8 without errors, no duplicate
 * members, no `__proto__`, bounded depth, no lone surrogates. Pure.
 */

import { KmsError } from '../errors.ts';

const DEPTH_MAX = 16;

function malformed(expected: string): KmsError {
  return new KmsError('malformed-request', `the body is not acceptable JSON: ${expected}`);
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @returns the parsed value @throws KmsError `malformed-request`, never quoting the text */
export function parseStrictJson(bytes: Uint8Array): unknown {
  const text = decode(bytes);
  assertDepth(text);
  const value = parse(text);
  assertMembers(text);
  return value;
}

/** For JSON inside something else. @returns undefined for whatever is no acceptable JSON object */
export function parseStrictObject(bytes: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  try {
    const value = parseStrictJson(bytes);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw malformed('expected UTF-8');
  }
}

/** Before parsing, as the parser recurses. */
function assertDepth(text: string): void {
  let depth = 0;
  scan(text, (token) => {
    if (token === '{' || token === '[') depth += 1;
    else if (token === '}' || token === ']') depth -= 1;
    if (depth > DEPTH_MAX) throw malformed(`nested deeper than ${DEPTH_MAX}`);
  });
}

const STRUCTURE: ReadonlySet<string> = new Set('{}[]:,');

/**
 * Shows strings as a whole, and the structure around them; everything else is left to JSON.parse. One pass: an expression
 * that looks for strings would look through the rest of the text again from each quote of a string without an end.
 *
 * @throws KmsError `malformed-request` for such a string
 */
function scan(text: string, show: (token: string) => void): void {
  for (let at = 0; at < text.length; at += 1) {
    const character = text.charAt(at);
    if (character === '"') {
      const end = stringEnd(text, at);
      show(text.slice(at, end));
      at = end - 1;
    } else if (STRUCTURE.has(character)) show(character);
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** @param start of its first quote @returns the place after its last one */
function stringEnd(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH) at += 1;
    else if (code === QUOTE) return at + 1;
  }
  throw malformed('syntax error');
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the text.
    throw malformed('syntax error');
  }
}

/** On a text that JSON.parse accepted: a string followed by a colon is a member name. */
function assertMembers(text: string): void {
  const open: Set<string>[] = [];
  let last = '';
  scan(text, (token) => {
    if (token === '{' || token === '[') open.push(new Set());
    else if (token === '}' || token === ']') open.pop();
    else if (token === ':') addMember(open.at(-1), last);
    else if (token !== ',') last = checkedString(token);
  });
}

function checkedString(token: string): string {
  const text = token.includes('\\') ? (JSON.parse(token) as string) : token.slice(1, -1);
  if (/\p{Surrogate}/u.test(text)) throw malformed('lone surrogate in a string');
  return text;
}

function addMember(members: Set<string> | undefined, name: string): void {
  if (name === '__proto__') throw malformed('member __proto__');
  if (members?.has(name) === true) throw malformed('duplicate member');
  members?.add(name);
}
