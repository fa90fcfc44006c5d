/**
 * Reads a backup file: once to verify it, with nothing of it in memory but the rows that name its token, and once more
 * for its rows, which must be the same bytes again.
 */

import { createHash, createPublicKey, type Hash, verify } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import type { Installation } from '../keys/key.ts';
import { toInstallation } from './access-rows.ts';
import {
  BACKUP_VERSION, type BackupHeader, type BackupStream, type Line, parseLine, refused, type Section, type Trailer,
} from './backup-format.ts';
import type { InstallationTable, InternalKeyTable } from './schema.ts';
import { type AnyRow, SCHEMA_NUMBER } from './sealed-tables.ts';
import type { Batch, TransferTable } from './transfer.ts';

export interface Backup {
  readonly path: string;
  readonly header: BackupHeader;
  /** As the file says; its seals are not checked yet. */
  readonly installation: Installation;
  readonly streams: readonly BackupStream[];
  /** Rows by table. */
  readonly counts: Readonly<Record<string, number>>;
  /** SHA-256 of the whole file, hex. */
  readonly digest: string;
}

const CHUNK = 1024 * 1024;
/** Far beyond any row. */
const LINE_MAX = 16 * 1024 * 1024;
const BATCH = 500;

/**
 * @param publicKey SubjectPublicKeyInfo of the audit key, DER; undefined to take the one in the file, which then proves
 * nothing before the seal of its row is checked
 * @throws KmsError `integrity` naming what was altered
 */
export function verifyBackup(path: string, publicKey: Uint8Array | undefined): Backup {
  const scan = new Scan();
  for (const line of linesOf(path)) scan.add(line);
  return scan.verified(path, publicKey);
}

/** The rows of a verified file. @throws KmsError `integrity` at their end, when the file has changed */
// eslint-disable-next-line @typescript-eslint/require-await -- whoever takes batches waits for those of a database, too
export async function* readBackup({ path, digest }: Backup): AsyncGenerator<Batch> {
  const whole = createHash('sha256');
  let batch: { readonly table: TransferTable; readonly rows: AnyRow[] } | undefined;
  let number = 0;
  for (const bytes of linesOf(path)) {
    whole.update(bytes);
    number += 1;
    const line = parseLine(textOf(bytes), number);
    const row = 'row' in line ? line : undefined;
    if (batch !== undefined && (row?.section !== batch.table || batch.rows.length === BATCH)) {
      yield batch;
      batch = undefined;
    }
    if (row !== undefined) {
      batch ??= { table: row.section, rows: [] };
      batch.rows.push(row.row);
    }
  }
  if (whole.digest('hex') !== digest) throw refused('the file changed while it was read');
}

/** Lines with their newline. @throws KmsError `integrity` when the last one has none */
function* linesOf(path: string): Generator<Buffer> {
  const file = openSync(path, 'r');
  try {
    let rest = Buffer.alloc(0);
    for (;;) {
      const chunk = Buffer.allocUnsafe(CHUNK);
      const length = readSync(file, chunk, 0, CHUNK, null);
      if (length === 0) break;
      rest = Buffer.concat([rest, chunk.subarray(0, length)]);
      for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
        yield rest.subarray(0, end + 1);
        rest = rest.subarray(end + 1);
      }
      if (rest.length > LINE_MAX) throw refused('a line of it is too long');
    }
    if (rest.length > 0) throw refused('it is truncated: its last line has no end');
  } finally {
    closeSync(file);
  }
}

function textOf(line: Buffer): string {
  return line.toString('utf8', 0, line.length - 1);
}

type TrailerLine = Extract<Line, { section: 'trailer' }>;

/** What the first reading gathers. */
class Scan {
  readonly #whole = createHash('sha256');
  readonly #content = createHash('sha256');
  readonly #sections = new Map<string, { lines: number; readonly hash: Hash }>();
  readonly #streams: BackupStream[] = [];
  readonly #keys: InternalKeyTable[] = [];
  #installation: InstallationTable | undefined;
  #header: BackupHeader | undefined;
  #trailer: TrailerLine | undefined;
  #lines = 0;

  add(bytes: Buffer): void {
    if (this.#trailer !== undefined) throw refused('it goes on after its trailer');
    const line = parseLine(textOf(bytes), this.#lines + 1);
    this.#whole.update(bytes);
    if (line.section === 'trailer') {
      this.#trailer = line;
      return;
    }
    this.#lines += 1;
    this.#content.update(bytes);
    const section = this.#sections.get(line.section) ?? { lines: 0, hash: createHash('sha256') };
    this.#sections.set(line.section, section);
    section.lines += 1;
    section.hash.update(bytes);
    this.#keep(line);
  }

  verified(path: string, publicKey: Uint8Array | undefined): Backup {
    const [header, trailer] = [this.#header, this.#trailer];
    if (header === undefined || trailer === undefined) throw refused('it is truncated: it has no trailer');
    this.#checkVersion(header);
    const found = this.#found();
    const altered = firstAltered(trailer.trailer, found);
    if (!isSigned(trailer, publicKey ?? this.#auditKey())) throw refused(whySigned(altered));
    if (altered !== undefined) throw refused(altered);
    if (this.#installation === undefined) throw refused('it holds no installation');
    const counts = Object.fromEntries(Object.entries(found.sections).map(([name, { lines }]) => [name, lines]));
    const installation = toInstallation(this.#installation, this.#keys);
    if (installation.id !== header.installation) throw refused('its header names another installation');
    return { path, header, installation, streams: this.#streams, counts, digest: this.#whole.digest('hex') };
  }

  #keep(line: Exclude<Line, { section: 'trailer' }>): void {
    if (line.section === 'header') this.#header = line.header;
    else if ('stream' in line) this.#streams.push(line.stream);
    else if (line.section === 'installation') this.#installation = line.row as unknown as InstallationTable;
    else if (line.section === 'internal_key') this.#keys.push(line.row as unknown as InternalKeyTable);
  }

  #checkVersion({ version, schema }: BackupHeader): void {
    if (version === BACKUP_VERSION && schema <= SCHEMA_NUMBER) return;
    throw refused(`it is of version ${version}, schema ${schema}; this program reads version ${BACKUP_VERSION}, schema ${SCHEMA_NUMBER} or before`);
  }

  #found(): Pick<Trailer, 'lines' | 'sha256' | 'sections'> {
    const sections = Object.fromEntries([...this.#sections].map(([name, { lines, hash }]): [string, Section] =>
      [name, { lines, sha256: hash.digest('hex') }]));
    return { lines: this.#lines, sha256: this.#content.digest('hex'), sections };
  }

  #auditKey(): Uint8Array {
    const key = this.#keys.find(({ name }) => name === 'audit')?.public_key;
    if (!key) throw refused('it holds no audit key');
    return key;
  }
}

/** What does not agree with the trailer, by name. */
function firstAltered(trailer: Trailer, found: Pick<Trailer, 'lines' | 'sha256' | 'sections'>): string | undefined {
  if (typeof trailer.sections !== 'object') return 'its trailer has no sections';
  for (const name of new Set([...Object.keys(trailer.sections), ...Object.keys(found.sections)])) {
    const [said, is] = [trailer.sections[name], found.sections[name]];
    if (said?.lines !== is?.lines) return `${naming(name)}: ${is?.lines ?? 0} lines, the trailer says ${said?.lines ?? 0}`;
    if (said?.sha256 !== is?.sha256) return `${naming(name)} was altered`;
  }
  if (trailer.lines !== found.lines || trailer.sha256 !== found.sha256) return 'its sections are not in the order they were written';
  return undefined;
}

function naming(section: string): string {
  return section === 'header' || section === 'streams' ? `its ${section}` : `its table ${section}`;
}

/** A trailer that fits all the rest is what was written, so its signature is not. */
function whySigned(altered: string | undefined): string {
  if (altered === undefined) return 'its signature does not hold';
  return `the signature of its trailer does not hold, and ${altered}`;
}

function isSigned({ signed, signature }: TrailerLine, publicKey: Uint8Array): boolean {
  const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
  return verify('sha256', signed, { key, dsaEncoding: 'der' }, signature);
}
