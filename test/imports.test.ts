import { describe, expect, test } from '@jest/globals';
import { checkImports, readSources } from '../scripts/check-imports.ts';

const check = (file: string, text: string) => checkImports(new Map([[file, text]]));

test('src follows the import table', () => {
  expect(readSources().size).toBeGreaterThan(0);
  expect(checkImports()).toEqual([]);
});

describe('refused', () => {
  test.each([
    ['errors.ts', `import { fromBase64 } from './bytes.ts';`, 'errors may not import bytes'],
    ['bytes.ts', `import { z } from 'zod';`, 'bytes may not import zod'],
    ['pkcs11/token.ts', `import Koa from 'koa';`, 'pkcs11 may not import koa'],
    ['pkcs11/token.ts', `import { a } from '../crypto/engine.ts';`, 'pkcs11 may not import crypto/engine'],
    ['pkcs11/token.ts', `import cluster from 'node:cluster';`, 'node:cluster belongs to cli alone'],
    ['crypto/sign.ts', `import { readFile } from 'node:fs/promises';`, 'crypto may not import node:fs/promises'],
    ['crypto/sign.ts', `import { readFileSync } from 'fs';`, 'crypto may not import node:fs'],
    ['crypto/sign.ts', `import pkcs11js from 'pkcs11js';`, 'pkcs11js belongs to pkcs11 alone'],
    ['crypto/sign.ts', `import { a } from '../pkcs11/mechanism.ts';`, 'with `import type` only'],
    ['crypto/sign.ts', `import { type A } from '../pkcs11/mechanism.ts';`, 'with `import type` only'],
    ['crypto/sign.ts', `export * from '../keys/usage.ts';`, 'crypto may not import keys/usage'],
    ['store/sqlite.ts', `import { a } from '../keys/key.ts';`, 'with `import type` only'],
    ['store/sqlite.ts', `import type { A } from '../keys/usage.ts';`, 'store may not import keys/usage'],
    ['audit/log.ts', `import Database from 'better-sqlite3';`, 'audit may not import better-sqlite3'],
    ['auth/policy.ts', `import { a } from '../store/store.ts';`, 'auth may not import store/store'],
    ['auth/policy.ts', `import { log } from '../telemetry/log.ts';`, 'auth may not import telemetry/log'],
    ['keys/access.ts', `import { jwtVerify } from 'jose';`, 'keys may not import jose'],
    ['keys/access.ts', `import { Kysely } from 'kysely';`, 'keys may not import kysely'],
    ['keys/access.ts', `import type { Token } from '../pkcs11/token.ts';`, 'keys may not import pkcs11/token'],
    ['keys/access.ts', `import { sign } from '../crypto/sign.ts';`, 'keys may not import crypto/sign'],
    ['keys/access.ts', `import { seal } from '../audit/record.ts';`, 'with `import type` only'],
    ['keys/access.ts', `import { config } from '../config.ts';`, 'keys may not import config'],
    ['keys/access.ts', `const a = await import('../store/sqlite.ts');`, 'keys may not import store/sqlite'],
    ['keys/access.ts', `type A = import('../store/sqlite.ts').A;`, 'keys may not import store/sqlite'],
    ['keys/access.ts', `const a = await import(name);`, 'computed name'],
    ['keys/access.ts', `const koa = require('koa');`, 'keys may not import koa'],
    ['api/server.ts', `import { a } from '../crypto/engine.ts';`, 'api may not import crypto/engine'],
    ['api/server.ts', `import { a } from '../audit/log.ts';`, 'api may not import audit/log'],
    ['api/okms/keys.ts', `import { a } from '../keyvault/wire.ts';`, 'api/okms may not import api/keyvault'],
    ['api/keyvault/keys.ts', `import type { A } from '../okms/wire.ts';`, 'api/keyvault may not import api/okms'],
    ['api/oauth/token.ts', `import { a } from '../okms/jws.ts';`, 'api/oauth may not import api/okms'],
    ['telemetry/log.ts', `import { a } from '../keys/usage.ts';`, 'telemetry may not import keys/usage'],
    ['config.ts', `import { a } from './app.ts';`, 'config may not import app'],
    ['app.ts', `import { serve } from './cli/serve.ts';`, 'app may not import cli/serve'],
    ['app.ts', `import { Worker } from 'node:worker_threads';`, 'node:worker_threads belongs to pkcs11 alone'],
    ['cli/doctor.ts', `import { Module } from 'graphene-pk11';`, 'graphene-pk11 belongs to pkcs11 alone'],
    ['cli/main.ts', `import { a } from '../../scripts/a.ts';`, 'outside src'],
    ['util/text.ts', `export const a = 1;`, 'no row for util'],
  ])('%s: %s', (file, text, reason) => {
    const [violation, ...others] = check(file, text);
    expect(violation).toContain(reason);
    expect(others).toEqual([]);
  });
});

describe('allowed', () => {
  test.each([
    ['errors.ts', `import { inspect } from 'node:util';`],
    ['pkcs11/token-thread.ts', `import { parentPort } from 'node:worker_threads';`],
    ['pkcs11/profile.ts', `import { z } from 'zod'; import { parse } from 'yaml'; import pkcs11js from 'pkcs11js';`],
    ['crypto/sign.ts', `import { createHash } from 'node:crypto'; import { a } from '../pkcs11/token.ts';`],
    ['crypto/sign.ts', `import type { A } from '../pkcs11/mechanism.ts';`],
    ['store/store.ts', `import type { Key } from '../keys/key.ts'; export type * from '../keys/key.ts';`],
    ['store/migrations/001.ts', `import { sql } from 'kysely'; import { a } from '../statements.ts';`],
    ['auth/access-token.ts', `import { jwtVerify } from 'jose/jwt/verify'; import '@peculiar/x509';`],
    ['keys/access.ts', `import type { A } from '../audit/record.ts'; import { b } from '../telemetry/metrics.ts';`],
    ['api/okms/keys.ts', `import Router from '@koa/router'; import { a } from '../read.ts'; import { b } from './wire.ts';`],
    ['app.ts', `import { a } from './api/okms/routes.ts'; import { b } from './config.ts'; import 'pino';`],
    ['cli/serve.ts', `import cluster from 'node:cluster'; import { a } from '../app.ts'; import { b } from './drain.ts';`],
    ['globals.d.ts', `type CryptoKey = import('node:crypto').webcrypto.CryptoKey;`],
    ['keys/access.ts', `// import Koa from 'koa';\nconst text = "import Koa from 'koa'";`],
  ])('%s: %s', (file, text) => {
    expect(check(file, text)).toEqual([]);
  });
});

test('names file and line', () => {
  expect(check('keys/access.ts', `\n\nimport Koa from 'koa';`)).toEqual(['keys/access.ts:3: keys may not import koa']);
});
