/** What is installed: bundles that need nothing of what tests import, and say where in the source an error was made. */

import { execFile, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import ts from 'typescript';

const DIST = 'dist/cli';
const run = promisify(execFile);

const bundles = readdirSync(DIST).filter((name) => name.endsWith('.js'));
/** Of one bundle by another. */
const STATIC = /\b(?:import|from)"\.\/([^"]+)"/g;
const DYNAMIC = /\bimport\("\.\/([^"]+)"\)/g;

function parts(name: string, kind: RegExp): readonly string[] {
  return [...readFileSync(join(DIST, name), 'utf8').matchAll(kind)].map(([, part]) => part!);
}

/** Files that are loaded before a program does anything. */
function loadedWith(name: string, seen = new Set<string>()): ReadonlySet<string> {
  if (seen.has(name)) return seen;
  seen.add(name);
  for (const part of parts(name, STATIC)) loadedWith(part, seen);
  return seen;
}

describe('bundles', () => {
  test('import one another, native modules, and nothing else', () => {
    const texts = bundles.map((name) => readFileSync(join(DIST, name), 'utf8'));
    // A package may speak of itself in a message.
    const isWithin = (name: string): boolean => texts.some((text) => text.includes(`"node_modules/${name}/`));
    const outside = texts.flatMap((text) => ts.preProcessFile(text, true, true).importedFiles).map(({ fileName }) => fileName)
      .filter((name) => !bundles.includes(name.slice(2)) && !isBuiltin(name) && !isWithin(name));
    expect([...new Set(outside)].sort()).toEqual(['better-sqlite3', 'pkcs11js']);
    for (const text of texts) expect(text).not.toContain('build/modules');
  });

  test('the token thread loads neither schemas nor YAML nor store', () => {
    const bytes = [...loadedWith('token-thread.js')].reduce((sum, name) => sum + statSync(join(DIST, name)).size, 0);
    expect(bytes).toBeLessThan(150_000);
  });

  test('help loads no command', () => {
    const loaded = [...loadedWith('main.js'), ...parts('main.js', DYNAMIC).flatMap((part) => [...loadedWith(part)])];
    const texts = loaded.map((name) => readFileSync(join(DIST, name), 'utf8')).join('');
    expect(texts).not.toMatch(/better-sqlite3|pkcs11js/);
  });

  test('stack traces name source files and lines', () => {
    const preload = `const write = process.stderr.write.bind(process.stderr); process.stdout.write = () => write(new Error('here').stack);`;
    const { stderr } = spawnSync(process.execPath, ['--import', `data:text/javascript,${encodeURIComponent(preload)}`, `${DIST}/main.js`, 'help'], {
      encoding: 'utf8', env: { PATH: process.env['PATH'] },
    });
    expect(stderr).toMatch(/at .*\(?.*src\/cli\/program\.ts:\d+:\d+/);
    const place = /src\/cli\/program\.ts:(\d+)/.exec(stderr)![1];
    expect(readFileSync('src/cli/program.ts', 'utf8').split('\n')[Number(place) - 1]).toContain('parseAsync');
  });
});

describe('the packed release', () => {
  let directory: string;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kms-test-'));
    const { stdout } = await run('npm', ['pack', '--json', '--dry-run', '--ignore-scripts']);
    const [{ files }] = JSON.parse(stdout) as [{ files: readonly { path: string }[] }];
    for (const { path } of files) {
      mkdirSync(dirname(join(directory, path)), { recursive: true });
      cpSync(path, join(directory, path));
    }
    // What an installation of it brings: the packages that it names, and nothing of what built it.
    mkdirSync(join(directory, 'node_modules'));
    for (const name of ['better-sqlite3', 'bindings', 'file-uri-to-path', 'pkcs11js', 'swagger-ui-dist']) {
      symlinkSync(resolve('node_modules', name), join(directory, 'node_modules', name));
    }
  });

  afterAll(() => { rmSync(directory, { recursive: true, force: true }); });

  test('has the programs, and no sources, tests or unbundled modules', () => {
    const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => !name.startsWith('node_modules'));
    expect(names).toEqual(expect.arrayContaining(['dist/cli/main.js', 'hsm-config/softhsm-2.6.1.yaml', 'softhsm2.conf', 'web/swagger/page.html', 'LICENSE']));
    expect(names.filter((name) => /^(?:src|test|build|scripts|bench)/.test(name))).toEqual([]);
    expect(statSync(join(directory, 'dist/cli/main.js')).mode & 0o111).not.toBe(0);
  });

  test('makes an installation and shows its vaults', async () => {
    const main = join(directory, 'dist/cli/main.js');
    const env = { PATH: process.env['PATH'], KMS_HOME: join(directory, 'home') };
    await run(process.execPath, [main, 'init', '--dev'], { env });
    const { stdout } = await run(process.execPath, [main, 'vault', 'list'], { env });
    expect(stdout).toMatch(/^dev managed-hsm .*\ndev-premium premium .*\n$/);
  });

  test('refuses to run outside its package, saying so', async () => {
    const alone = join(directory, 'alone');
    mkdirSync(alone);
    cpSync(join(directory, 'dist'), join(alone, 'dist'), { recursive: true });
    writeFileSync(join(alone, 'marker'), '');
    rmSync(join(directory, 'package.json'));
    await expect(run(process.execPath, [join(alone, 'dist/cli/main.js'), 'help'])).rejects.toMatchObject({
      stderr: expect.stringContaining('there is no package.json above them'),
    });
  });
});
