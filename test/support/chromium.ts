/** A real browser from the system, headless; never one that is downloaded. */

import { existsSync, mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';

const CANDIDATES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Undefined where there is none; KMS_CHROMIUM names one elsewhere. */
export function findChromium(): string | undefined {
  return [process.env['KMS_CHROMIUM'] ?? '', ...CANDIDATES].find((path) => path !== '' && existsSync(path));
}

/** Root needs --no-sandbox. */
export function launchChromium(executablePath: string): Promise<Browser> {
  return chromium.launch({ executablePath, args: ['--no-sandbox'] });
}

/** What went wrong on a page by its own account, and every origin that it asked. */
export interface Watch {
  readonly errors: string[];
  readonly origins: Set<string>;
}

export function watch(page: Page): Watch {
  const seen: Watch = { errors: [], origins: new Set() };
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) seen.errors.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => { seen.errors.push(`uncaught: ${error.message}`); });
  page.on('requestfailed', (request) => { seen.errors.push(`failed: ${request.url()}`); });
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== 'data:') seen.origins.add(origin);
  });
  return seen;
}

/** Into var/screenshots, for people to look at. */
export async function screenshot(page: Page, name: string): Promise<void> {
  const directory = resolve('var/screenshots');
  mkdirSync(directory, { recursive: true });
  await page.screenshot({ path: `${directory}/${name}.png`, fullPage: true });
}
