import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';

const read = (file: string) => JSON.parse(readFileSync(file, 'utf8'));
const manifest = read('package.json');
const lock = read('package-lock.json');

const dependencies: Record<string, string> = { ...manifest.dependencies, ...manifest.devDependencies };

describe('package.json', () => {
  test.each(Object.entries(dependencies))('%s is pinned exactly: %s', (_name, range) => {
    expect(range).toMatch(/^(npm:(@[\w.-]+\/)?[\w.-]+@)?\d+\.\d+\.\d+$/);
  });

  test('says which install scripts may run', () => {
    expect(manifest.allowScripts).toEqual({
      pkcs11js: true,
      'better-sqlite3': true,
      '@scarf/scarf': false,
      '@parcel/watcher': false,
      'unrs-resolver': false,
      esbuild: false,
    });
  });

  test('asks the telemetry of Swagger UI not to run under an npm that does not know of that', () => {
    expect(manifest.scarfSettings).toEqual({ enabled: false });
  });

  test('keeps the version of unrs-resolver whose platforms every registry has', () => {
    expect(manifest.overrides['unrs-resolver']).toBe('1.12.2');
    expect(lock.packages['node_modules/unrs-resolver'].version).toBe('1.12.2');
  });

  test('the client for Entra ID is one that runs on Node 20, which ended with 4.13.1', () => {
    expect(lock.packages['node_modules/@azure/identity'].engines.node).toBe('>=20.0.0');
  });

  // better-sqlite3 13 installs on Node 20 and then crashes with a segmentation fault.
  const node20 = process.versions.node.startsWith('20.');
  (node20 ? test : test.skip)('better-sqlite3 is 12 on Node 20', () => {
    expect(read('node_modules/better-sqlite3/package.json').version).toMatch(/^12\./);
  });
});

describe('package-lock.json', () => {
  const packages: [string, Record<string, unknown>][] = Object.entries(lock.packages);

  test('holds no download address', () => {
    expect(packages.filter(([, entry]) => 'resolved' in entry).map(([path]) => path)).toEqual([]);
    const rest = packages.map(([path, entry]) => [path, { ...entry, funding: undefined }]);
    expect(JSON.stringify(rest)).not.toMatch(/https?:/);
  });

  test('holds a checksum for every package', () => {
    const without = packages.filter(([path, entry]) => path !== '' && !('integrity' in entry) && entry['inBundle'] !== true);
    expect(without.map(([path]) => path)).toEqual([]);
  });

  // typescript-eslint's optional peer would otherwise leave entries that npm 10, which comes with Node 20, refuses.
  test('holds nothing extraneous', () => {
    expect(packages.filter(([, entry]) => entry['extraneous'] === true).map(([path]) => path)).toEqual([]);
  });

  test('runs install scripts of decided packages only', () => {
    const scripts = packages.filter(([, entry]) => entry['hasInstallScript'] === true);
    const undecided = scripts
      .map(([path]) => path.replace(/^.*node_modules\//, ''))
      // fsevents is for another system and never installed on Linux.
      .filter((name) => name !== 'fsevents' && !(name in manifest.allowScripts));
    expect(undecided).toEqual([]);
  });
});

describe('files', () => {
  const listing = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { encoding: 'utf8' });
  (listing.status === 0 ? test : test.skip)('name no absolute path of a machine (needs git)', () => {
    const path = /(?<![\w.~$}\])/-])\/(?:home|Users|work|root)\/[\w.-]/;
    const found = listing.stdout
      .split('\0')
      .filter((file) => file !== '')
      .filter((file) => {
        const text = textOf(file);
        return text !== undefined && path.test(text);
      });
    expect(found).toEqual([]);
  });
});

/** Undefined for binary files and for those listed but removed. */
function textOf(file: string): string | undefined {
  try {
    const text = readFileSync(file, 'utf8');
    return text.includes('\0') ? undefined : text;
  } catch {
    return undefined;
  }
}
