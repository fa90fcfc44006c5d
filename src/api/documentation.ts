/**
 * The OpenAPI documents of the doors and a Swagger UI page for each, on both HTTPS ports (okms-rest-api §4.6). The
 * public page is for reading; on the API port requests run with the browser's client certificate, and the page opens
 * with one only. Between the documents of the two ports nothing differs but a link.
 */

import type { Context, Middleware } from 'koa';
import { asKmsError, KmsError } from '../errors.ts';
import { type Asset, readAssets, readTemplate, type Template } from './assets.ts';
import type { DoorDescription, OpenApi } from './openapi.ts';
import { originOf, type PortName, type Ports } from './origins.ts';

export interface DoorDocument {
  readonly door: DoorDescription;
  readonly document: OpenApi;
}

export interface DocumentationOptions {
  readonly documents: readonly DoorDocument[];
  readonly ports: Ports;
  /** The port that is served. */
  readonly here: PortName;
  /** Of the API port: @throws KmsError `unauthenticated` when the visitor may not open a page */
  readonly admit: (ctx: Context) => Promise<void>;
}

/** Without any `unsafe-*`, and for no other origin than its own (stack §7). */
const POLICY = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
  "font-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
].join('; ');

const HEADERS = {
  'Content-Security-Policy': POLICY,
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Frame-Options': 'DENY',
} as const;

const HTML = 'text/html; charset=utf-8';

type Answer = (ctx: Context) => void | Promise<void>;

export function documentation(options: DocumentationOptions): Middleware {
  const answers = new Map<string, Answer>();
  const page = readTemplate('page.html');
  const refusal = readTemplate('no-certificate.html');
  for (const described of options.documents) {
    const { name } = described.door;
    answers.set(`/openapi/${name}.json`, (ctx) => { ctx.body = shown(ctx, described, options); });
    answers.set(`/swagger/${name}`, (ctx) => answerPage(ctx, described, options, { page, refusal }));
  }
  for (const [name, asset] of readAssets()) answers.set(`/swagger/assets/${name}`, (ctx) => { answerAsset(ctx, asset); });
  return async (ctx, next) => {
    const answer = answers.get(ctx.path);
    if (answer === undefined) {
      await next();
      return;
    }
    if (ctx.method !== 'GET' && ctx.method !== 'HEAD') {
      throw new KmsError('method-not-allowed', `the method ${ctx.method} is not defined for this path`);
    }
    ctx.state['operation'] = 'documentation';
    ctx.set(HEADERS);
    await answer(ctx);
  };
}

/** The document as seen from the host name that the client used. */
function shown(ctx: Context, { door, document }: DoorDocument, { here, ports }: DocumentationOptions): object {
  const api = originOf(ctx, here, 'api', ports);
  const servers = document.servers?.map((server) => ({ ...server, url: `${api}${server.url}` }));
  return { ...document, info: { ...document.info, description: description(ctx, door, here, ports) }, servers };
}

function description(ctx: Context, { name, text }: DoorDescription, here: PortName, ports: Ports): string {
  const other = here === 'public' ? 'api' : 'public';
  const words = { api: 'the authenticated page', public: 'the public page' }[other];
  return `${text}\n\nThis document is shown on two pages: one is public and for reading; on the other, requests run with the \
client certificate of your browser. Go to [${words}](${originOf(ctx, here, other, ports)}/swagger/${name}/).`;
}

async function answerPage(
  ctx: Context,
  { door }: DoorDocument,
  { here, ports, admit }: DocumentationOptions,
  { page, refusal }: { readonly page: Template; readonly refusal: Template },
): Promise<void> {
  try {
    if (here === 'api') await admit(ctx);
    ctx.type = HTML;
    ctx.body = page({ title: door.title, document: `/openapi/${door.name}.json`, try: String(here === 'api') });
  } catch (thrown) {
    const { code, message } = asKmsError(thrown);
    if (code !== 'unauthenticated') throw thrown;
    ctx.status = 401;
    ctx.type = HTML;
    ctx.body = refusal({ title: door.title, reason: message, other: `${originOf(ctx, here, 'public', ports)}/swagger/${door.name}/` });
  }
}

/** The files of a release do not change; a new one is seen within the hour, or at once by its entity tag. */
function answerAsset(ctx: Context, { type, bytes, etag }: Asset): void {
  ctx.set('Cache-Control', 'public, max-age=3600');
  ctx.type = type;
  ctx.etag = etag;
  ctx.status = 200;
  if (ctx.fresh) ctx.status = 304;
  else ctx.body = bytes;
}
