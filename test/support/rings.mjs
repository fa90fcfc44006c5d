// Which tests are of `make check`: those that need no server, no token and no database. Read from their imports, so that
// a new test is in the right ring by itself.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

/** Whoever imports one of these, directly or through others, starts or opens something. */
const HEAVY = new Set([
  'test/support/installation.ts', 'test/support/files.ts', 'test/support/built.ts', 'test/support/postgres.ts', 'test/fault/token.ts',
  'src/store/sqlite.ts', 'src/store/postgres.ts', 'src/store/postgres-engine.ts', 'src/store/sqlite-driver.ts', 'src/pkcs11/cryptoki.ts',
]);
const HEAVY_PACKAGES = new Set(['better-sqlite3', 'pkcs11js', 'graphene-pk11', 'pg', 'playwright-core']);

/** Imports of types are gone before anything runs. */
const IMPORT = /^(?:import|export)\s+(?!type\b)(?:[^'";]*?\sfrom\s+)?'([^']+)'/gm;
const DYNAMIC = /\bimport\(\s*(?:new URL\()?['"`]([^'"`]+)['"`]/g;

const known = new Map();

/** @param file relative to the repository */
export function isLight(file) {
  const before = known.get(file);
  if (before !== undefined) return before;
  // Of a circle: decided by the others in it.
  known.set(file, true);
  const light = !HEAVY.has(file) && importsOf(file).every((name) => (name.startsWith('.') ? isLightAt(file, name) : !HEAVY_PACKAGES.has(name)));
  known.set(file, light);
  return light;
}

function importsOf(file) {
  const text = readFileSync(file, 'utf8');
  return [...text.matchAll(IMPORT), ...text.matchAll(DYNAMIC)].map(([, name]) => name);
}

function isLightAt(file, name) {
  const path = relative('.', resolve(dirname(file), name));
  return !existsSync(path) || !/\.[cm]?[jt]s$/.test(path) || isLight(path);
}

/** @returns test files of `make check`, relative to the repository */
export function lightTests() {
  const files = readdirSync('test', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.test.ts'));
  return files.map((name) => join('test', name)).filter(isLight).sort();
}
