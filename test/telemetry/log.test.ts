import { spawnSync } from 'node:child_process';

import { describe, expect, test } from '@jest/globals';

import { KmsError, asKmsError } from '../../src/errors.ts';
import { createLogger } from '../../src/telemetry/log.ts';
import type { LogLevel } from '../../src/telemetry/log.ts';

const MARKER = 'S3CRET-MARKER';

function capture(level: LogLevel = 'info', base: object = { host: 'h-1' }) {
  const text: string[] = [];
  const logger = createLogger({ level, base, destination: { write: (line) => void text.push(line) } });
  return { logger, lines: () => text.map((line) => JSON.parse(line)), text: () => text.join('') };
}

/** What a body parser throws: the raw body hangs on the error, and V8 quotes it. */
function brokenBody(): Error {
  try {
    JSON.parse(MARKER);
  } catch (error) {
    return Object.assign(error as Error, { body: `{"plaintext":"${MARKER}"`, status: 400 });
  }
  throw new Error('parsed');
}

test('one line of JSON per event', () => {
  const { logger, lines, text } = capture();
  logger.info({ door: 'okms', status: 200 }, 'request');
  logger.debug('not shown');
  logger.child({ requestId: 'r-1' }).warn('slow');
  expect(text().split('\n')).toHaveLength(3);
  expect(lines()).toEqual([
    { level: 'info', time: expect.stringMatching(/^\d{4}-.*Z$/), host: 'h-1', door: 'okms', status: 200, msg: 'request' },
    { level: 'warn', time: expect.any(String), host: 'h-1', requestId: 'r-1', msg: 'slow' },
  ]);
});

describe('never in the log', () => {
  test.each<[string, object]>([
    ['err.body', { err: brokenBody() }],
    ['an error under another name', { reason: brokenBody() }],
    ['an error deep inside', { a: { b: [brokenBody()] } }],
    ['an error as the fields', brokenBody()],
    ['the body in a cause', { err: asKmsError(brokenBody()) }],
    ['authorization', { req: { headers: { authorization: MARKER, 'Proxy-Authorization': MARKER, cookie: MARKER } } }],
    ['pin', { pin: MARKER, hsm: { userPin: MARKER, 'so-pin': MARKER } }],
    ['plaintext', { operation: { plaintext: MARKER, ciphertext: MARKER, context: MARKER, value: MARKER } }],
    ['key material', { keyMaterial: MARKER, key: { k: MARKER, d: MARKER, key_hsm: MARKER, jwk: { n: MARKER } } }],
    ['bytes', { mac: Buffer.from(MARKER), list: [new Uint8Array(Buffer.from(MARKER))] }],
    ['an instance', { socket: new (class Socket { readonly buffered = MARKER })() }],
    ['a token in a text', { header: `Bearer eyJ${MARKER}.e30.${MARKER}` }],
    ['deeper than anybody looks', { a: { a: { a: { a: { a: { a: { a: { a: { pin: MARKER } } } } } } } } }],
  ])('%s', (_, fields) => {
    const { logger, text, lines } = capture();
    logger.error(fields, 'event');
    logger.child(fields).child({ x: 1 }).error('child');
    capture('info', fields).logger.info('base');
    const base = capture('info', fields);
    base.logger.info('base');
    expect(text() + base.text()).not.toContain(MARKER);
    expect(lines()).toHaveLength(2);
  });

  test('a token in the message', () => {
    const { logger, text } = capture();
    logger.info(`got eyJ${MARKER}.e30.${MARKER}`);
    expect(text()).not.toContain(MARKER);
  });

  test('the argument that Node quotes', () => {
    const { logger, text, lines } = capture();
    try {
      Buffer.alloc(MARKER as never);
    } catch (error) {
      logger.error({ err: error }, 'failed');
    }
    expect(text()).not.toContain(MARKER);
    expect(lines()[0].err).toMatchObject({ type: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  });

  test('a value that contains itself ends', () => {
    const { logger, lines } = capture();
    const loop: Record<string, unknown> = { name: 'loop' };
    loop['self'] = loop;
    logger.info({ loop }, 'event');
    expect(lines()[0].loop.self.name).toBe('loop');
  });
});

describe('errors', () => {
  test('an expected one has no stack', () => {
    const { logger, lines } = capture();
    const cause = Object.assign(new Error('CKR_DEVICE_ERROR'), { code: 48, session: MARKER });
    logger.error({ err: new KmsError('token-unavailable', 'no session', { cause, retryAfter: 1 }) }, 'failed');
    expect(lines()[0].err).toEqual({
      ...{ type: 'KmsError', code: 'token-unavailable', message: 'no session' },
      cause: { name: 'Error', code: 48, message: 'CKR_DEVICE_ERROR' },
    });
  });

  test('the field at fault is named', () => {
    const { logger, lines } = capture();
    logger.warn({ err: new KmsError('invalid-field', 'name: 1 to 127 letters', { field: 'name' }) }, 'refused');
    expect(lines()[0].err).toEqual({ type: 'KmsError', code: 'invalid-field', field: 'name', message: 'name: 1 to 127 letters' });
  });

  test.each([
    ['unknown', (cause: Error) => cause],
    ['internal', (cause: Error) => asKmsError(cause)],
  ])('an %s one shows where it happened, once', (_, wrap) => {
    const { logger, lines } = capture();
    const where = function whereItHappened() {
      return new RangeError('out of range');
    };
    logger.error({ err: wrap(where()) }, 'failed');
    expect(lines()[0].err.stack).toMatch(/^ {4}at .*whereItHappened/);
    expect(lines()[0].err.stack).not.toContain('out of range');
  });
});

describe('standard error', () => {
  const run = (end: string) => {
    const built = new URL('../../build/modules/telemetry/log.js', import.meta.url).href;
    const program = `
      const { createLogger } = await import('${built}');
      const logger = createLogger({ level: 'info', base: {} });
      for (let n = 0; n < 500; n += 1) logger.info({ n }, 'event');
      ${end}`;
    return spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  };

  test.each([
    ['a normal end', ''],
    ['process.exit', 'process.exit(0);'],
    ['SIGKILL after flush', `await logger.child({}).flush(); process.kill(process.pid, 'SIGKILL');`],
  ])('has every line after %s', (_, end) => {
    const { stderr, stdout } = run(end);
    expect(stdout).toBe('');
    expect(stderr.trim().split('\n').map((line) => JSON.parse(line).n)).toEqual(Array.from({ length: 500 }, (_n, n) => n));
  });
});
