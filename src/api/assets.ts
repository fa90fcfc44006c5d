/**
 * The static files of the documentation pages, by exact name: Swagger UI from its package, and our own from `web/`.
 * Read once; no path of a request ever reaches the file system.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { packageFile } from '../package.ts';

export interface Asset {
  readonly type: string;
  readonly bytes: Buffer;
  readonly etag: string;
}

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.png': 'image/png',
};

const FROM_PACKAGE = ['swagger-ui.css', 'swagger-ui-bundle.js', 'favicon-32x32.png'];
const OWN = ['page.css', 'init.js'];

const { resolve } = createRequire(import.meta.url);

function own(name: string): string {
  return packageFile(`web/swagger/${name}`);
}

export function readAssets(): ReadonlyMap<string, Asset> {
  const paths = new Map<string, string>([
    ...FROM_PACKAGE.map((name) => [name, resolve(`swagger-ui-dist/${name}`)] as const),
    ...OWN.map((name) => [name, own(name)] as const),
  ]);
  return new Map(Array.from(paths, ([name, path]) => [name, asset(name, readFileSync(path))]));
}

function asset(name: string, bytes: Buffer): Asset {
  const type = TYPES[extname(name)] ?? 'application/octet-stream';
  return { type, bytes, etag: createHash('sha256').update(bytes).digest('base64url').slice(0, 22) };
}

/** A page with places for values, `{{name}}`. */
export type Template = (values: Readonly<Record<string, string>>) => string;

export function readTemplate(name: string): Template {
  const text = readFileSync(own(name), 'utf8');
  return (values) => text.replace(/\{\{(\w+)\}\}/g, (_, key: string) => escape(values[key] ?? ''));
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
