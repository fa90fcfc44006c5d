/**
 * The noun `audit`. `kms audit verify` needs the files and the public key alone; when the store answers, the heads it
 * knows are compared too, so that a cut tail and a removed stream are found. With the token those heads are verified,
 * and the macs of records that no checkpoint covers.
 */

import { createPublicKey } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { type KnownStream, type TreeReport, verifyTree, type VerifyOptions } from '../audit/verify.ts';
import { type Config, loadConfig } from '../config.ts';
import { asKmsError, invalidField } from '../errors.ts';
import { paths } from '../home.ts';
import { LEASE_MS } from '../keys/fleet.ts';
import { isRunning } from '../own-process.ts';
import { openStore } from '../parts.ts';
import type { KeyStore, ProcessRow } from '../store/store.ts';
import { abandonStream } from './abandon-stream.ts';
import { formatVerification, type Output, outputOption, print, say } from './output.ts';
import { openVerified, withAccess } from './session.ts';

export interface VerifyArguments {
  readonly publicKey?: string | undefined;
  readonly directory?: string | undefined;
  readonly offline?: boolean | undefined;
  readonly token?: boolean | undefined;
}

export interface AuditReport extends TreeReport {
  /** What was compared with the store. */
  readonly store: string;
}

export function auditCommands(audit: Command, finish: (code: number) => void): void {
  audit
    .command('verify')
    .description('check every stream; names the first bad position')
    .option('--public-key <file>', 'audit key, PEM (default: audit/audit-key.pem in $KMS_HOME)')
    .option('--directory <dir>', 'where the streams are (default: audit in $KMS_HOME)')
    .option('--offline', 'do not ask the store for the heads it knows')
    .option('--token', 'log in to the token: verify those heads, and records that no checkpoint covers')
    .addOption(outputOption())
    .action(async ({ output, ...options }: VerifyArguments & Output) => {
      const report = await verifyAudit(loadConfig(process.env), options);
      print(output === 'json' ? JSON.stringify(report, null, 2) : formatVerification(report));
      finish(report.ok ? 0 : 6);
    });
  audit
    .command('abandon')
    .description('give up the stream of a host that never returns')
    .argument('<stream>', 'HOST/BOOT, as kms audit verify names it')
    .requiredOption('--reason <text>', 'why; goes to the audit')
    .addOption(outputOption())
    .action(async (stream: string, options: Output & { readonly reason: string }) => { finish(await abandon(stream, options)); });
}

async function abandon(stream: string, { reason, output }: Output & { readonly reason: string }): Promise<number> {
  if (reason.trim() === '') {
    say('kms audit abandon: --reason must say why');
    return 2;
  }
  const report = await abandonStream(loadConfig(process.env), stream, reason);
  print(output === 'json' ? JSON.stringify(report, null, 2) : `abandoned: ${stream} at record ${report.seq}; ${report.recovered} changes without an outcome recorded`);
  return 0;
}

/** @throws KmsError `invalid-field` if there is no usable public key, `audit-unavailable` if a file cannot be read */
export async function verifyAudit(config: Config, place: VerifyArguments): Promise<AuditReport> {
  const publicKey = readPublicKey(place.publicKey ?? paths.auditKey(config.home));
  const directory = place.directory ?? paths.audit(config.home);
  const verified = async (more: Omit<VerifyOptions, 'publicKey'>, store: string): Promise<AuditReport> =>
    ({ ...(await verifyTree(directory, { publicKey, ...more })), store });
  if (place.token === true) {
    return withAccess(config, async (access) => {
      await openVerified(access);
      const heads = toHeads(config, directory, await access.store.processes(), await access.store.nowMs());
      return verified({ heads, mac: access.macs.tail, installation: access.installation.id }, 'compared with its heads, verified with the token');
    });
  }
  if (place.offline === true) return verified({}, 'not compared (--offline)');
  const heads = await claimedHeads(config, directory);
  if (typeof heads === 'string') return verified({}, `not compared (${heads})`);
  return verified({ heads }, 'compared with its heads as the store says; --token verifies them');
}

/** @returns why there are none */
async function claimedHeads(config: Config, directory: string): Promise<readonly KnownStream[] | string> {
  let store: KeyStore | undefined;
  try {
    store = await openStore(config, 'audit-verify');
    return toHeads(config, directory, await store.claimedProcesses(), await store.nowMs());
  } catch (error) {
    return asKmsError(error).message;
  } finally {
    await store?.close();
  }
}

/**
 * Streams of hosts whose files are not here can be compared there only; but a dead one concerns everybody until a
 * successor on its host adopts it, or somebody abandons it.
 */
function toHeads({ hostId }: Config, directory: string, rows: readonly ProcessRow[], nowMs: number): readonly KnownStream[] {
  const isHere = (host: string): boolean => host === hostId || existsSync(join(directory, host));
  return rows
    .map((row) => ({ row, state: stateOf(row, hostId, nowMs) }))
    .filter(({ row, state }) => state === 'dead' || isHere(row.hostId))
    .map(({ row, state }) => ({ stream: `${row.hostId}/${row.bootId}`, seq: row.stream.seq, head: row.stream.head, state }));
}

function stateOf(row: ProcessRow, ownHost: string, nowMs: number): KnownStream['state'] {
  if (row.state !== 'open') return row.state;
  const runs = row.hostId === ownHost ? isRunning(row) : nowMs - row.leaseMs <= LEASE_MS;
  return runs ? 'open' : 'dead';
}

function readPublicKey(path: string): Uint8Array {
  try {
    return createPublicKey(readFileSync(path)).export({ format: 'der', type: 'spki' });
  } catch {
    throw invalidField('--public-key', `expected a public key in PEM at ${path}`);
  }
}
