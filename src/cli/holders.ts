/** Who a role is given to, as commands and policy files name them. */

import type { Command } from 'commander';
import { isPrintable } from '../auth/access-token.ts';
import { issuerOf } from '../auth/principal.ts';
import type { Config } from '../config.ts';
import { invalidField } from '../errors.ts';
import type { Holder, HolderMethod, Installation } from '../keys/key.ts';
import { issuerNamed } from '../trust.ts';

/** One of these names, and whose name it is. */
export interface HolderNames {
  readonly token?: string | undefined;
  readonly certificate?: string | undefined;
  readonly identity?: string | undefined;
  readonly group?: string | undefined;
  readonly appRole?: string | undefined;
  /** Name of a configured issuer or CA; our own without it. */
  readonly issuer?: string | undefined;
}

const METHODS: Readonly<Record<Exclude<keyof HolderNames, 'issuer'>, HolderMethod>> = {
  token: 'token', certificate: 'certificate', identity: 'identity', group: 'group', appRole: 'app-role',
};

export function withHolder(command: Command): Command {
  return command
    .option('--token <subject>', 'the subject of access tokens')
    .option('--certificate <subject>', 'the subject of access certificates')
    .option('--identity <urn>', 'an identity of access certificates')
    .option('--group <name>', 'a group that access tokens name')
    .option('--app-role <name>', 'a role that access tokens name')
    .option('--issuer <name>', 'of a configured issuer of tokens or CA; our own without it');
}

export interface HolderContext {
  readonly config: Config;
  readonly installation: Pick<Installation, 'id'>;
}

/** @throws KmsError `invalid-field` for none or several, and for an issuer that is not configured */
export function holderOf(names: HolderNames, context: HolderContext): Holder {
  const given = Object.entries(METHODS).flatMap(([name, method]) => {
    const subject = names[name as keyof typeof METHODS];
    return subject === undefined ? [] : [{ method, subject }];
  });
  const [one] = given;
  if (one === undefined || given.length > 1) throw invalidField('holder', 'expected one of token, certificate, identity, group and appRole');
  if (!isPrintable(one.subject)) throw invalidField(one.method, 'expected 1 to 256 printable characters');
  return { ...one, issuer: issuerFor(one.method, names.issuer, context) };
}

function issuerFor(method: HolderMethod, name: string | undefined, { config, installation }: HolderContext): string {
  if (name === undefined) return issuerOf(installation.id);
  if (method === 'identity') throw invalidField('issuer', 'identities are ours: expected none');
  const issuer = issuerNamed(config, method === 'certificate' ? 'certificate' : 'token', name);
  if (issuer === undefined) throw invalidField('issuer', `nothing is configured under the name ${name}`);
  return issuer;
}
