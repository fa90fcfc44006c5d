/** `kms explain`: what became of a request, by its id, and which role would have allowed what was refused. From the audit. */

import type { Command } from 'commander';
import { findRequest } from '../audit/find.ts';
import type { AuditRecord } from '../audit/record.ts';
import { BUILT_IN_ROLES, covers } from '../auth/roles.ts';
import { type Config, loadConfig } from '../config.ts';
import { KmsError } from '../errors.ts';
import { paths } from '../home.ts';
import type { Permission } from '../keys/key.ts';
import { ALL_PERMISSIONS } from '../keys/permission-names.ts';
import { type Output, outputOption, print } from './output.ts';
import { type Policy, readPolicy } from './role-commands.ts';

export interface Explanation {
  readonly event: string;
  readonly result: string;
  /** Error code of a refusal. */
  readonly reason: string | null;
  readonly time: string;
  /** Null where nobody was known yet. */
  readonly principal: { readonly method: string; readonly issuer: string; readonly subject: string } | null;
  readonly vault: string | null;
  readonly key: string | null;
  /** What refused it, in words. */
  readonly rule: string | null;
  readonly permission: string | null;
  /** That would have allowed it, in the vault or for the key. */
  readonly roles: readonly string[];
  /** That the principal has now, without those of groups; null when the store does not answer. */
  readonly has: readonly string[] | null;
}

const RULES: Readonly<Record<string, string>> = {
  'no-credential': 'it came without client certificate and access token',
  'authorization-header': 'its Authorization header holds no bearer token',
  'certificate-issuer': 'the client certificate is of no CA that is accepted, or not for clients',
  'certificate-not-yet-valid': 'the client certificate is not valid yet',
  'certificate-expired': 'the client certificate has expired',
  'certificate-subject': 'the client certificate names no subject of the configured kind, or several',
  'certificate-unknown': 'the client certificate is of the access CA, but no kms cert issue made it known',
  'certificate-revoked': 'the client certificate is revoked',
  'certificate-domain': 'the client certificate names another OKMS domain than it was issued for',
  'crl-stale': 'the CRL of the CA of the client certificate is overdue: nobody can tell what is revoked',
  'vault-unknown': 'the CA of the client certificate is configured for a vault that does not exist',
  'vault-of-credential': 'the certificate is good for another vault than the one that was asked for',
  'no-vault': 'the path names no vault, and neither does the credential',
  'client-secret': 'the client of the token endpoint is unknown or revoked, or its secret is wrong',
  'token-too-long': 'the access token is longer than 8 KiB',
  'token-issuer': 'the access token is none, or of an issuer that is not configured',
  'token-key': 'the access token names no key of its issuer',
  'token-jwks-no-matching-key': 'the access token names no key of its issuer',
  'token-jwt-expired-exp': 'the access token has expired',
  'token-jws-signature-verification-failed': 'the signature of the access token does not hold',
  'token-jose-alg-not-allowed': 'the access token is signed with an algorithm that its issuer is not configured for',
  'token-subject': 'the access token names no subject, or has no id',
  'token-lifetime': 'the access token lives longer than tokens of the built-in issuer may',
  'token-too-many-groups': 'the access token names more than 200 groups and roles',
  'rate-use': 'the caller made more uses of keys in a second than limits.useRate',
  'rate-read': 'the caller made more reads in a second than limits.readRate',
  'rate-manage': 'the caller made more changes in a second than limits.manageRate',
};

export function explainCommand(command: Command, finish: (code: number) => void): void {
  command
    .addOption(outputOption())
    .action(async (requestId: string, { output }: Output) => {
      const found = await explain(loadConfig(process.env), requestId);
      print(output === 'json' ? JSON.stringify(found, null, 2) : found.map(formatExplanation).join('\n'));
      finish(0);
    });
}

/** One for each record of the request. @throws KmsError `not-found` */
export async function explain(config: Config, requestId: string): Promise<readonly Explanation[]> {
  const records = await findRequest(paths.audit(config.home), requestId);
  if (records.length > 0) {
    // It takes a login, and is asked for once.
    const policy = records.some((record) => permissionIn(record) !== null) ? await policyOrNull(config) : null;
    return records.map((record) => explained(record, policy));
  }
  throw new KmsError('not-found', `the audit of this host has no request ${requestId}: of many refusals of one kind in a second it holds the first, and how many they were`);
}

function explained(record: AuditRecord, policy: Policy | null): Explanation {
  const { event, result, reason, wall, principal, vault, key, detail } = record;
  const permission = permissionIn(record);
  return {
    event, result,
    reason: reason ?? null,
    time: new Date(wall).toISOString(),
    principal: principal ?? null,
    vault: vault ?? null,
    key: key ?? null,
    rule: permission === null ? ruleOf(reason, detail?.['rule']) : `nobody gave the caller a role with ${permission} there`,
    permission,
    roles: permission === null ? [] : BUILT_IN_ROLES.filter(({ permissions }) => covers(permissions, permission)).map(({ slug }) => slug),
    has: permission === null || principal === undefined || policy === null ? null : rolesOf(policy, principal),
  };
}

function permissionIn({ reason, detail }: AuditRecord): Permission | null {
  const named = detail?.['permission'];
  return reason === 'forbidden' ? (ALL_PERMISSIONS.find((permission) => permission === named) ?? null) : null;
}

function ruleOf(reason: string | undefined, rule: unknown): string | null {
  if (typeof rule !== 'string') return reason ?? null;
  const missing = /^token-jwt-claim-validation-failed-(\w+)$/.exec(rule)?.[1] ?? /^token-claim-(\S+)$/.exec(rule)?.[1];
  if (missing !== undefined) return `the claim ${missing} of the access token is missing, or has another value than it must have`;
  return RULES[rule] ?? rule;
}

/** The roles that count for everybody who explains: those of the moment, not of the request. */
function rolesOf({ assignments, custom }: Policy, { method, issuer, subject }: NonNullable<AuditRecord['principal']>): readonly string[] {
  return assignments
    .filter((of) => of.method === method && of.issuer === issuer && of.subject === subject)
    .map(({ role }) => custom.find(({ id }) => id === role)?.name ?? role);
}

/** The audit is enough to explain: HSM and store need not answer. */
async function policyOrNull(config: Config): Promise<Policy | null> {
  try {
    return await readPolicy(config);
  } catch {
    return null;
  }
}

function formatExplanation({ time, event, result, reason, principal, vault, key, rule, roles, has }: Explanation): string {
  const who = principal === null ? 'somebody unknown' : `${principal.method} ${principal.subject} (${principal.issuer})`;
  const where = [vault === null ? '' : ` in vault ${vault}`, key === null ? '' : `, key ${key}`].join('');
  return [
    `${time} ${event} by ${who}${where}: ${result}${reason === null ? '' : `, ${reason}`}`,
    ...(rule === null ? [] : [`  because: ${rule}`]),
    ...(roles.length === 0 ? [] : [`  would be allowed by: ${roles.join(', ')}`]),
    ...(has === null ? [] : [`  roles now: ${has.length === 0 ? 'none' : has.join(', ')}`]),
  ].join('\n');
}
