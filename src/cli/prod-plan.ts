/** What a production installation is told, in a file or at the terminal. Secrets come from files of their own. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { parse } from 'yaml';
import { z } from 'zod';
import { isPrintable } from '../auth/access-token.ts';
import { readCertificateRequest } from '../auth/certificate-request.ts';
import { ACCESS_DAYS_MAX } from '../auth/issue-certificate.ts';
import { invalidField } from '../errors.ts';
import { newVault } from '../keys/vaults.ts';
import { p12Password, readGiven } from './given-files.ts';
import type { Plan } from './init-plan.ts';
import { assertNoPassword } from './join.ts';

const path = z.string().min(1);
const port = z.int().min(0).max(65_535).optional();

const schema = z.strictObject({
  hsm: z.strictObject({
    /** Name of a file in hsm-config/, or the path of one. */
    profile: z.string().min(1),
    tokenLabel: z.string().min(1).max(32),
    /** File with the user PIN. */
    pinFile: path,
    /** File with the PIN of the security officer: the token is made. Without it the token is there already. */
    soPinFile: path.optional(),
    /** Of SoftHSM, for tokens that are not in the home. */
    tokenDirectory: path.optional(),
  }),
  store: z.strictObject({ url: z.string().default(''), passwordFile: z.string().default('') }).prefault({}),
  server: z.strictObject({
    addresses: z.array(z.string().min(1)).min(1).optional(),
    /** Further DNS names and addresses for the server certificate. */
    names: z.array(z.string().min(1)).default([]),
    port, publicPort: port, metricsPort: port,
  }).prefault({}),
  vault: z.strictObject({
    name: z.string(),
    flavour: z.enum(['premium', 'managed-hsm']),
    backup: z.enum(['allowed', 'never']),
    softDeleteDays: z.int().default(90),
    purgeProtection: z.boolean().default(false),
    compromiseRule: z.enum(['reversible', 'final']).default('reversible'),
    profile: z.enum(['standard', 'fips']).default('standard'),
    keyQuota: z.int().nullable().default(null),
    cbc: z.boolean().default(false), rsa15: z.boolean().default(false), rsnull: z.boolean().default(false),
  }),
  administrator: z.strictObject({
    subject: z.string().refine(isPrintable, { error: 'expected 1 to 256 printable characters' }).default('admin'),
    /** File with a certificate signing request, PKCS#10; without it a key is made. */
    csr: path.optional(),
    days: z.int().min(1).max(ACCESS_DAYS_MAX).default(ACCESS_DAYS_MAX),
    p12PasswordFile: path.optional(),
  }).prefault({}),
});

type Told = z.infer<typeof schema>;

/** @param file YAML; its relative paths are relative to the working directory @throws KmsError `invalid-field` naming each member at fault */
export async function planFromFile(file: string): Promise<Plan> {
  let tree: unknown;
  try {
    tree = parse(readGiven('--from', file));
  } catch (error) {
    throw invalidField('--from', (error as Error).message);
  }
  return planOf(tree ?? {});
}

async function planOf(tree: unknown): Promise<Plan> {
  const read = schema.safeParse(tree);
  if (!read.success) throw invalidField('--from', z.prettifyError(read.error));
  return toPlan(read.data);
}

async function toPlan({ hsm, store, server: { names, ...server }, vault, administrator }: Told): Promise<Plan> {
  const { profile, tokenLabel, tokenDirectory } = hsm;
  if (store.url !== '') assertNoPassword(store.url);
  newVault(vault, 0);
  const pinFile = existing('hsm.pinFile', hsm.pinFile);
  const soPinFile = hsm.soPinFile === undefined ? null : existing('hsm.soPinFile', hsm.soPinFile);
  const password = p12Password('administrator.p12PasswordFile', administrator.p12PasswordFile, administrator.csr === undefined);
  const listens = Object.fromEntries(Object.entries(server).filter(([, value]) => value !== undefined));
  const passwordFile = store.passwordFile === '' ? '' : existing('store.passwordFile', store.passwordFile);
  return {
    kind: 'prod',
    settings: {
      hsm: { profile, pinFile },
      ...(Object.keys(listens).length > 0 && { server: listens }),
      ...(store.url !== '' && { store: { url: store.url, ...(passwordFile !== '' && { passwordFile }) } }),
    },
    token: {
      label: tokenLabel, soPinFile, makesPins: false,
      ...(/(?:^|\/)softhsm/.test(profile) && { directory: tokenDirectory === undefined ? null : existing('hsm.tokenDirectory', tokenDirectory) }),
    },
    vaults: [vault],
    names,
    serverCa: 'KMS server CA',
    administrator: {
      subject: administrator.subject,
      publicKey: administrator.csr === undefined ? null : await readRequest(administrator.csr),
      days: administrator.days,
      p12Password: password,
    },
  };
}

/** @returns absolute */
function existing(member: string, file: string): string {
  if (existsSync(file)) return resolve(file);
  throw invalidField(member, `${file} is not there`);
}

async function readRequest(file: string): Promise<Uint8Array> {
  const member = 'administrator.csr';
  return readCertificateRequest(member, readGiven(member, file));
}

/** Questions in the order of the file; an empty answer leaves a member out. */
const QUESTIONS: readonly (readonly [member: string, question: string])[] = [
  ['hsm.profile', 'HSM profile, a name in hsm-config/ or a path'],
  ['hsm.tokenLabel', 'Label of the token'],
  ['hsm.pinFile', 'File with the PIN of the token'],
  ['hsm.soPinFile', 'File with the PIN of the security officer, to make the token; empty when it is there'],
  ['store.url', 'PostgreSQL, postgres://user@host/database; empty for SQLite'],
  ['store.passwordFile', 'File with the password of that user; empty for PGPASSWORD'],
  ['vault.name', 'Name of the first vault'],
  ['vault.flavour', 'Its flavour, premium or managed-hsm'],
  ['vault.backup', 'Whether its keys may ever be backed up, allowed or never'],
  ['administrator.csr', 'File with the request for the administrator\'s certificate; empty to make a key here'],
];

/** @throws KmsError `invalid-field` when nobody can be asked, naming what is needed; as `planFromFile` */
export async function planFromTerminal(): Promise<Plan> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw invalidField('--from', `expected a file with ${QUESTIONS.map(([member]) => member).join(', ')}, as nobody is here to ask; or say --dev (docs/production.md)`);
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const tree: Record<string, Record<string, string>> = {};
  try {
    for (const [member, question] of QUESTIONS) {
      const answer = (await terminal.question(`${question}: `)).trim();
      const [section = '', name = ''] = member.split('.');
      if (answer !== '') tree[section] = { ...tree[section], [name]: answer };
    }
  } finally {
    terminal.close();
  }
  return planOf(tree);
}
