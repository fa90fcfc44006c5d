// Swagger UI in a real browser (okms-rest-api §4.6): the public page reads, the authenticated page works on keys with the
// administrator's PKCS#12 file, and whoever has no certificate learns what to do.

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core';
import { findChromium, launchChromium, screenshot, type Watch, watch } from '../support/chromium.ts';
import { rows } from '../support/form.ts';
import { type Client, Installation } from '../support/installation.ts';
import { PATIENCE_MS } from '../support/wait.ts';

/** To unfold two dozen operations takes a busy machine a minute. */
jest.setTimeout(300_000);

const executable = findChromium();
const title = executable === undefined ? 'Swagger UI (skipped: no Chromium found; KMS_CHROMIUM may name one)' : 'Swagger UI';

(executable === undefined ? describe.skip : describe)(title, () => {
  let kms: Installation;
  let admin: Client;
  let browser: Browser;

  beforeAll(async () => {
    kms = await Installation.make();
    await kms.start();
    admin = kms.client();
    browser = await launchChromium(executable!);
  });

  afterAll(async () => {
    await browser.close();
    await admin.close();
    await kms.remove();
  });

  const page = (port: number, door = 'okms'): string => `https://localhost:${port}/swagger/${door}/`;

  async function open(context: BrowserContext, url: string): Promise<{ tab: Page; seen: Watch; status: number }> {
    context.setDefaultTimeout(PATIENCE_MS);
    const tab = await context.newPage();
    const seen = watch(tab);
    const answer = await tab.goto(url);
    return { tab, seen, status: answer?.status() ?? 0 };
  }

  const stranger = (): Promise<BrowserContext> => browser.newContext({ ignoreHTTPSErrors: true });

  const withCertificate = (): Promise<BrowserContext> => browser.newContext({
    ignoreHTTPSErrors: true,
    viewport: { width: 1280, height: 1000 },
    clientCertificates: [{
      origin: `https://localhost:${kms.port}`,
      pfxPath: join(kms.home, 'clients', 'admin.p12'),
      passphrase: 'changeit',
    }],
  });

  test('the public page reads: every operation, nothing to try, no error, nobody else asked', async () => {
    const context = await stranger();
    const { tab, seen, status } = await open(context, page(kms.publicPort));
    expect(status).toBe(200);
    await tab.locator('.opblock').first().waitFor();
    expect(await tab.locator('h1, h2').first().innerText()).toContain('OVHcloud KMS REST API');
    const { json } = await kms.client(null).get(`https://localhost:${kms.publicPort}/openapi/okms.json`);
    expect(await tab.locator('.opblock').count()).toBe(operationsOf(json).length);
    const link = tab.getByRole('link', { name: 'the authenticated page' });
    expect(await link.getAttribute('href')).toBe(page(kms.port));
    const first = tab.locator('#operations-Cryptography-encrypt');
    await first.locator('.opblock-summary-control').click();
    await first.getByText('Encrypt up to 4096 bytes').waitFor();
    await screenshot(tab, 'swagger-public');
    await first.locator('.opblock-summary-control').click();
    await unfoldEachShape(tab, json);
    expect(seen.errors).toEqual([]);
    expect([...seen.origins]).toEqual([`https://localhost:${kms.publicPort}`]);
    await context.close();
  });

  test('the authenticated page creates, encrypts and decrypts with the certificate of the browser', async () => {
    const context = await withCertificate();
    const { tab, seen, status } = await open(context, page(kms.port));
    expect(status).toBe(200);
    await tab.locator('.opblock').first().waitFor();
    // The example that the page offers works as it is.
    const created = await execute(tab, 'Keys-createKey', {});
    expect(created).toMatchObject({ status: '201', json: { name: 'my first key', type: 'oct', size: 256 } });
    const id = created.json.id as string;
    await screenshot(tab, 'swagger-create');
    expect((await admin.get(`/servicekey/${id}`)).json).toEqual(created.json);

    const plaintext = Buffer.from('typed into a browser').toString('base64');
    const sealed = await execute(tab, 'Cryptography-encrypt', { id, body: { plaintext, context: 'page' } });
    expect(sealed).toEqual({ status: '200', json: { ciphertext: expect.stringMatching(/^[\w-]+\.\.[\w-]+\.[\w-]+\.[\w-]+$/) } });
    await screenshot(tab, 'swagger-encrypt');
    const { ciphertext } = sealed.json;
    expect((await admin.post(`/servicekey/${id}/decrypt`, { ciphertext, context: 'page' })).json).toEqual({ plaintext });

    const opened = await execute(tab, 'Cryptography-decrypt', { id, body: { ciphertext, context: 'page' } });
    expect(opened).toEqual({ status: '200', json: { plaintext } });
    await screenshot(tab, 'swagger-decrypt');

    // The other server of the document takes the vault's id.
    await tab.locator('.servers select').selectOption({ index: 1 });
    await tab.locator('.servers input').fill(kms.admin.okmsId);
    const requested = tab.waitForRequest((request) => request.url().includes('/api/'));
    const listed = await execute(tab, 'Keys-listKeys', {});
    expect((await requested).url()).toBe(`${kms.base}/servicekey`);
    expect(listed).toMatchObject({ status: '200', json: { objects_list: [{ id }] } });
    expect(seen.errors).toEqual([]);
    expect([...seen.origins]).toEqual([`https://localhost:${kms.port}`]);
    await context.close();
  });

  test('the public page of the Key Vault API reads', async () => {
    const context = await stranger();
    const { tab, seen, status } = await open(context, page(kms.publicPort, 'keyvault'));
    expect(status).toBe(200);
    await tab.locator('.opblock').first().waitFor();
    const { json } = await kms.client(null).get(`https://localhost:${kms.publicPort}/openapi/keyvault.json`);
    expect(await tab.locator('.opblock').count()).toBe(operationsOf(json).length);
    await screenshot(tab, 'swagger-keyvault-public');
    await unfoldEachShape(tab, json);
    expect(seen.errors).toEqual([]);
    await context.close();
  });

  test('its authenticated page makes a key and encrypts with the certificate of the browser', async () => {
    const context = await withCertificate();
    const { tab, seen } = await open(context, page(kms.port, 'keyvault'));
    await tab.locator('.opblock').first().waitFor();
    const created = await execute(tab, 'Keys-createKey', { fields: { name: 'from-a-page' }, body: { kty: 'oct-HSM', key_size: 256 } });
    expect(created).toMatchObject({ status: '200', json: { key: { kty: 'oct-HSM', kid: expect.stringContaining('/keys/from-a-page/') } } });
    const sealed = await execute(tab, 'Cryptography-encryptLatest', { fields: { name: 'from-a-page' }, body: { alg: 'A256GCM', value: 'aGVsbG8' } });
    expect(sealed).toMatchObject({ status: '200', json: { kid: created.json.key.kid, alg: 'A256GCM' } });
    await screenshot(tab, 'swagger-keyvault-encrypt');
    const listed = await execute(tab, 'Keys-getKeys', {});
    expect(listed).toMatchObject({ status: '200', json: { value: expect.arrayContaining([expect.objectContaining({ kid: `https://localhost:${kms.port}/keys/from-a-page` })]) } });
    expect(seen.errors).toEqual([]);
    expect([...seen.origins]).toEqual([`https://localhost:${kms.port}`]);
    await context.close();
  });

  test('the pages lead to each other', async () => {
    const context = await withCertificate();
    const { tab, seen } = await open(context, page(kms.publicPort));
    await tab.getByRole('link', { name: 'the authenticated page' }).click();
    const other = context.pages()[1] ?? await context.waitForEvent('page');
    await other.waitForURL(page(kms.port));
    expect(await other.getByRole('link', { name: 'the public page' }).getAttribute('href')).toBe(page(kms.publicPort));
    expect(seen.errors).toEqual([]);
    await context.close();
  });

  test('without a certificate the authenticated page says what to do and leads to the public one', async () => {
    const context = await stranger();
    const { tab, seen, status } = await open(context, page(kms.port));
    expect(status).toBe(401);
    expect(await tab.locator('h1').innerText()).toBe('This page needs a client certificate');
    expect(await tab.locator('body').innerText()).toContain('a client certificate is required');
    await screenshot(tab, 'swagger-no-certificate');
    await tab.getByRole('link', { name: 'the public page' }).click();
    await tab.waitForURL(page(kms.publicPort));
    await tab.locator('.opblock').first().waitFor();
    // The 401 itself is the browser's one complaint.
    expect(seen.errors.filter((error) => !error.includes('status of 401'))).toEqual([]);
    await context.close();
  });

  interface Operation {
    readonly operationId: string;
    readonly requestBody?: { readonly content: object };
    readonly responses: Readonly<Record<string, { readonly content?: object }>>;
  }

  const operationsOf = (document: { paths: Record<string, Record<string, Operation>> }): Operation[] =>
    Object.values(document.paths).flatMap((item) => Object.values(item));

  /**
   * One operation of each pair of body and answers, to read only: unfolded, Swagger UI makes examples of the schemas, and of
   * some it cannot. One at a time, since it resolves an OpenAPI 3.1 document again for each open operation: all at once take
   * the square of their number. In the short form every fifth of them, for each takes seconds.
   */
  async function unfoldEachShape(tab: Page, document: Parameters<typeof operationsOf>[0]): Promise<void> {
    const shapes = new Map(operationsOf(document).map((operation) => [
      JSON.stringify([operation.requestBody?.content, Object.values(operation.responses).map(({ content }) => content)]),
      operation.operationId,
    ]));
    for (const operationId of rows([...shapes.values()], 5)) {
      const operation = tab.locator(`.opblock[id$="-${operationId}"]`);
      await operation.locator('.opblock-summary-control').click();
      await operation.locator('.responses-table').waitFor();
      expect(await operation.getByRole('button', { name: /try it out|execute/i }).count()).toBe(0);
      await operation.locator('.opblock-summary-control').click();
    }
    // Against a document that says nothing, and a page that shows nothing.
    expect(shapes.size).toBeGreaterThan(10);
  }

  interface Done {
    readonly status: string;
    // eslint-disable-next-line @typescript-eslint/no-explicit-any -- answers of every shape
    readonly json: any;
  }

  /** By the buttons and fields that a person uses. */
  async function execute(tab: Page, block: string, { id, fields = {}, body }: { id?: string; fields?: Record<string, string>; body?: object }): Promise<Done> {
    const operation = tab.locator(`#operations-${block}`);
    await operation.locator('.opblock-summary-control').click();
    await operation.getByRole('button', { name: 'Try it out' }).click();
    if (id !== undefined) await operation.getByPlaceholder('keyId').fill(id);
    for (const [field, value] of Object.entries(fields)) await operation.getByPlaceholder(field).fill(value);
    if (body !== undefined) await operation.locator('textarea.body-param__text').fill(JSON.stringify(body));
    await operation.getByRole('button', { name: 'Execute' }).click();
    return result(operation);
  }

  async function result(operation: Locator): Promise<Done> {
    const row = operation.locator('.live-responses-table tbody tr.response').first();
    await row.waitFor();
    const status = (await row.locator('.response-col_status').innerText()).trim().split('\n')[0] ?? '';
    const text = await row.locator('.highlight-code code').first().innerText();
    return { status, json: JSON.parse(text) };
  }
});
