/** Another valid value for a column, as somebody who edits the database with care would choose it. */

import type { ColumnType } from '../../src/store/sealed-tables.ts';
import type { Row } from './behind.ts';

/** Other values that the column may have. The rest is changed by type. */
const OTHERS: Readonly<Record<string, readonly [string, string]>> = {
  state: ['active', 'deactivated'], kind: ['oct', 'RSA'], flavour: ['premium', 'managed-hsm'], backup: ['never', 'allowed'],
  compromise_rule: ['reversible', 'final'], profile: ['standard', 'fips'], role: ['owner', 'user'], method: ['certificate', 'token'],
  family: ['gcm', 'mac'], action: ['create', 'destroy'], status: ['serving', 'moved'], origin: ['generated', 'imported-clear'],
  backup_class: ['never', 'born-wrapped'], curve: ['P-256', 'P-384'],
};

/** @param n makes values differ where a column must not repeat itself */
export function another(name: string, type: ColumnType, value: Row[string], n = 0): Row[string] {
  const [first, second] = OTHERS[name] ?? [];
  if (first !== undefined && second !== undefined) return value === first ? second : first;
  switch (type) {
    case 'text': return value === null ? 'x' : `${String(value).slice(0, -1)}${String(value).endsWith('0') ? '1' : '0'}`;
    case 'bytes': return value === null ? Uint8Array.of(1) : flipped(value as Uint8Array);
    case 'flag': return 1 - Number(value);
    case 'int':
    case 'time': return value === null ? 1 : Number(value) + 100 + n;
    case 'json-list':
    case 'json-set': return value === '["sign"]' ? '["verify"]' : '["sign"]';
  }
}

function flipped(value: Uint8Array): Uint8Array {
  const copy = Buffer.from(value);
  copy.writeUInt8(copy.readUInt8(0) ^ 1, 0);
  return copy;
}
