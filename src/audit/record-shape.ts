/** Reads a line back into a record: bytes that somebody may have edited, so nothing about them is believed. */

import type { AuditRecord } from './record.ts';

export type Check = (value: unknown) => boolean;

export const text: Check = (value) => typeof value === 'string';
export const count: Check = (value) => Number.isSafeInteger(value) && Number(value) >= 0;
export const digest: Check = (value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
const result: Check = (value) => value === 'success' || value === 'refused' || value === 'failed';
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);

export function membersOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  return value as Readonly<Record<string, unknown>>;
}

const principal: Check = (value) => {
  const members = membersOf(value);
  return members !== undefined && [members['method'], members['issuer'], members['subject']].every(text);
};

const plain: Check = (value) => ['string', 'number', 'boolean'].includes(typeof value);

const detail: Check = (value) => {
  const members = membersOf(value);
  return members !== undefined && Object.values(members).every(plain);
};

const SHAPE: Readonly<Record<keyof AuditRecord, Check>> = {
  seq: count,
  wall: count,
  mono: count,
  boot: text,
  host: text,
  prev: digest,
  mac: optional(digest),
  event: text,
  result,
  reason: optional(text),
  requestId: optional(text),
  vault: optional(text),
  principal: optional(principal),
  credential: optional(text),
  source: optional(text),
  key: optional(text),
  version: optional((value) => text(value) || count(value)),
  algorithm: optional(text),
  bits: optional(count),
  objectIds: optional((value) => Array.isArray(value) && value.every(text)),
  detail: optional(detail),
};

const CHECKS = Object.entries(SHAPE);
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * @param line bytes of one line without its newline
 * @returns the record, or the reason why it is none
 */
export function readRecord(line: Uint8Array): AuditRecord | string {
  const members = membersOf(parse(line));
  if (members === undefined) return 'not a JSON object';
  const wrong = CHECKS.find(([name, check]) => !check(members[name]));
  return wrong === undefined ? (members as unknown as AuditRecord) : `member ${wrong[0]} is missing or malformed`;
}

function parse(line: Uint8Array): unknown {
  try {
    return JSON.parse(UTF8.decode(line));
  } catch {
    return undefined;
  }
}
