/**
 * The one body reader. koa-body reads the bytes and keeps the limit, also for chunked bodies; what it hands over is
 * the text as received, so that one strict check serves all routes of a format.
 */

import { koaBody } from 'koa-body';
import type { Context, Middleware } from 'koa';
import { KmsError } from '../errors.ts';
import { parseStrictForm } from './strict-form.ts';
import { parseStrictJson } from './strict-json.ts';

export interface BodyFormat {
  readonly name: string;
  /** Of Content-Type. */
  readonly accepts: RegExp;
  /** @throws KmsError `malformed-request`, never quoting the body */
  readonly parse: (bytes: Uint8Array) => unknown;
}

/** Any media type with `json` in it is JSON (okms-rest-api §1.2). */
const JSON_BODY: BodyFormat = { name: 'application/json', accepts: /json/i, parse: parseStrictJson };

export const FORM_BODY: BodyFormat = {
  name: 'application/x-www-form-urlencoded',
  accepts: /^application\/x-www-form-urlencoded *(?:;|$)/i,
  parse: parseStrictForm,
};

/** One character per byte: nothing is lost before the strict check decodes UTF-8. */
const ENCODING = 'latin1';

/** Leaves the parsed value in `ctx.state['body']`; undefined when there is none. */
export function readBody(limitBytes: number, format = JSON_BODY): Middleware {
  const reader = koaBody({
    json: false,
    urlencoded: false,
    multipart: false,
    text: true,
    textTypes: ['*/*'],
    textLimit: limitBytes,
    encoding: ENCODING,
    patchNode: false,
  });
  return async (ctx, next) => {
    assertReadable(ctx, format);
    await readText(ctx, reader, limitBytes);
    const text: unknown = ctx.request.body;
    ctx.state['body'] = typeof text === 'string' && text !== '' ? format.parse(Buffer.from(text, ENCODING)) : undefined;
    await next();
  };
}

/** A request without a body needs no media type. */
function assertReadable(ctx: Context, { name, accepts }: BodyFormat): void {
  if (ctx.get('content-encoding') !== '') throw malformed('Content-Encoding is not accepted');
  const empty = ctx.get('transfer-encoding') === '' && ['', '0'].includes(ctx.get('content-length'));
  if (!empty && !accepts.test(ctx.get('content-type'))) throw malformed(`expected Content-Type: ${name}`);
}

async function readText(ctx: Context, reader: Middleware, limitBytes: number): Promise<void> {
  try {
    await reader(ctx, () => Promise.resolve());
  } catch (error) {
    // The error of the reader may carry the body: it goes no further than here.
    if ((error as { type?: unknown }).type === 'entity.too.large') {
      throw new KmsError('too-large', `the body is larger than ${limitBytes} bytes`);
    }
    throw malformed('the body could not be read');
  }
}

function malformed(message: string): KmsError {
  return new KmsError('malformed-request', message);
}
