/**
 * Security S-28 over the whole suite: every secret that a test sends through our clients, and every PIN, is looked for in what
 * the service wrote, when an installation goes, and in each answer that refuses.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Members of bodies that hold secrets, in base64 or base64url: plaintexts, and private members of keys (RFC 7518 §6). */
const SECRET_MEMBERS: ReadonlySet<string> = new Set(['plaintext', 'k', 'd', 'p', 'q', 'dp', 'dq', 'qi']);
/** Of a Key Vault operation whose `value` is a plaintext. */
const PROTECTS = /\/(?:encrypt|wrapkey)(?:\?|$)/i;
const SHORTEST = 16;
/** So that a run of one letter is not found everywhere. */
const LETTERS = 8;
const NEEDLES_MAX = 1000;

/** Where secrets belong. */
const OWN_PLACES = /^(?:softhsm\/[^/]*\.pin|clients\/.*|tls\/[^/]*\.key|kms\.yaml)$/;

/** Secrets of the tests of this file, the newest. */
const needles = new Set<string>();

function remember(secret: string): void {
  if (secret.length < SHORTEST || new Set(secret).size < LETTERS) return;
  needles.add(secret);
  const [oldest] = needles;
  if (needles.size > NEEDLES_MAX && oldest !== undefined) needles.delete(oldest);
}

function secretsIn(value: unknown, protects: boolean): readonly string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, member]): readonly string[] => {
    if (typeof member === 'string') return SECRET_MEMBERS.has(name) || (protects && name === 'value') ? [member] : [];
    return secretsIn(member, protects);
  });
}

/** @returns the secrets of one request, which are remembered */
export function secretsOf(url: string, body: unknown, headers: Readonly<Record<string, string>>): readonly string[] {
  const [, token] = /^Bearer (.+)$/i.exec(headers['authorization'] ?? '') ?? [];
  const signature = token?.split('.')[2];
  const found = [...secretsIn(body, PROTECTS.test(url)), ...(signature === undefined ? [] : [signature])];
  found.forEach(remember);
  return found.filter((secret) => needles.has(secret));
}

/** @throws Error naming the request, when a refusal repeats a secret of it */
export function assertTellsNone(url: string, status: number, text: string, secrets: readonly string[]): void {
  if (status >= 400 && secrets.some((secret) => text.includes(secret))) throw new Error(`the refusal of ${url} repeats a secret`);
}

/** @param output of the servers @throws Error naming the files that hold a secret which does not belong there */
export function assertHidden(home: string, output: string): void {
  for (const pin of ['user.pin', 'so.pin'].map((name) => join(home, 'softhsm', name))) {
    if (existsSync(pin)) remember(readFileSync(pin, 'utf8').trim());
  }
  const forms = [...needles].flatMap((secret) => [Buffer.from(secret), decoded(secret)]).filter((form) => form.length >= SHORTEST);
  const holds = (content: Buffer): boolean => forms.some((form) => content.includes(form));
  const files = existsSync(home) ? readdirSync(home, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()) : [];
  const leaks = files.map((entry) => join(entry.parentPath, entry.name)).filter((path) => !OWN_PLACES.test(path.slice(home.length + 1)) && holds(readFileSync(path)));
  if (holds(Buffer.from(output))) leaks.push('the output of the service');
  if (leaks.length > 0) throw new Error(`a secret of a test is in ${leaks.join(', ')}`);
}

/** The bytes that it stands for. */
function decoded(secret: string): Buffer {
  const bytes = Buffer.from(secret, 'base64');
  return new Set(bytes).size < LETTERS ? Buffer.alloc(0) : bytes;
}
