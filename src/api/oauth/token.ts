/**
 * The token endpoint: an access token for a client that shows its secret (RFC 6749 §4.4). What is refused before the
 * client is known is reported from here; the rest the gate records.
 */

import type { Context } from 'koa';
import { z } from 'zod';
import { LIFETIME_MAX } from '../../auth/access-token.ts';
import { audienceOf, issueAccessToken, type SigningIssuer } from '../../auth/issue-access-token.ts';
import { invalidField, KmsError } from '../../errors.ts';
import type { Gate, Outcome } from '../../keys/access.ts';
import type { TokenClient } from '../../keys/key.ts';
import { FORM_BODY, readBody } from '../body.ts';
import { assertOwnOrigin } from '../origins.ts';
import { reportRefusals, requestIdOf } from '../pipeline.ts';
import { readMembers } from '../read.ts';
import { shownSecret } from './client-secret.ts';

/** What clients add for their own purposes stays far below. */
const FORM_MAX = 16 * 1024;

const text = (max: number): z.ZodOptional<z.ZodString> => z.string().max(max, `expected at most ${max} characters`).optional();

/** Others are ignored (RFC 6749 §3.2). */
const FORM = z.object({ grant_type: text(64), client_id: text(64), client_secret: text(256), scope: text(1024) });

const readForm = readBody(FORM_MAX, FORM_BODY);

interface TokenRequest {
  readonly client: TokenClient;
  readonly scope: string | undefined;
}

export async function answerToken(ctx: Context, gate: Gate, issuer: SigningIssuer): Promise<void> {
  const { client, scope } = await reportRefusals(ctx, gate, () => admit(ctx, gate));
  const call = { client, requestId: requestIdOf(ctx), source: ctx.ip };
  const token = await gate.issueToken(call, () => issue(issuer, client, scope));
  ctx.set('Pragma', 'no-cache');
  ctx.status = 200;
  ctx.body = { token_type: 'Bearer', expires_in: LIFETIME_MAX, ext_expires_in: LIFETIME_MAX, access_token: token };
}

async function admit(ctx: Context, gate: Gate): Promise<TokenRequest> {
  assertOwnOrigin(ctx);
  await readForm(ctx, () => Promise.resolve());
  const form = readMembers(FORM, ctx.state['body'] ?? {});
  if (form.grant_type === undefined) throw new KmsError('malformed-request', 'grant_type is missing');
  if (form.grant_type !== 'client_credentials') throw invalidField('grant_type', 'expected client_credentials');
  const { id, secret } = shownSecret(ctx.get('authorization'), form);
  return { client: await gate.entrance.identifyClient(id, secret), scope: form.scope };
}

async function issue(issuer: SigningIssuer, { subject }: TokenClient, scope: string | undefined): Promise<Outcome<string>> {
  const audience = scope === undefined ? undefined : audienceOf(issuer, scope);
  if (audience === undefined) throw invalidField('scope', `expected ${issuer.audiences[0] ?? ''}/.default`);
  const { text: value, facts } = await issueAccessToken(issuer, { subject, audience, lifetime: LIFETIME_MAX }, Date.now());
  return { value, facts: { detail: { ...facts, aud: audience } } };
}
