// Compiles src twice: into dist, the programs that are installed, as bundles, because loading 1,200 files costs more
// processor time than most commands; and into build/modules, file by file, for tests and benches that import a part.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { decode, encode } from '@jridgewell/sourcemap-codec';
import { build } from 'esbuild';

// What runs is never half-written: it is made beside its place and moved there.
const FRESH = 'build/dist';
const OLD = 'build/dist-before';

/** Native modules find their binaries beside themselves, Swagger UI is files that are served, pg asks whether its
 * native half is there. */
const OUTSIDE = ['better-sqlite3', 'pkcs11js', 'swagger-ui-dist', 'pg-native'];

/** Bundled packages of the older module system ask for `require`. */
const REQUIRE = `import { createRequire as requireOf } from 'node:module';\nconst require = requireOf(import.meta.url);`;

/**
 * Maps hold our own sources alone, and what has none of them has no map: every start of a program reads them.
 *
 * @param path of a bundle
 */
function keepOurSources(path) {
  const map = JSON.parse(readFileSync(`${path}.map`, 'utf8'));
  if (map.sources.every((source) => source.includes('/node_modules/'))) {
    rmSync(`${path}.map`);
    writeFileSync(path, readFileSync(path, 'utf8').replace(/\n\/\/# sourceMappingURL=\S+\n?$/, '\n'));
    return;
  }
  const isOurs = ([, source]) => source !== undefined && !map.sources[source].includes('/node_modules/');
  // A place without a source ends the one before it.
  const thin = (line) => line.map((place) => (isOurs(place) ? place.slice(0, 4) : [place[0]]))
    .filter((place, index, all) => place.length > 1 || (all[index - 1]?.length ?? 1) > 1);
  writeFileSync(`${path}.map`, JSON.stringify({ ...map, names: [], mappings: encode(decode(map.mappings).map(thin)) }));
}

/** zod tells its errors in fifty languages; ours are in one. */
const oneLanguage = {
  name: 'one-language',
  setup({ onResolve }) {
    onResolve({ filter: /\/locales\/index\.js$/ }, ({ resolveDir }) => ({ path: join(resolveDir, '../locales/en.js') }));
  },
};

async function bundle() {
  rmSync(FRESH, { recursive: true, force: true });
  await build({
    // All in one folder: the supervisor starts the server process, and that its token threads, by the name of the file.
    entryPoints: {
      main: 'src/cli/main.ts',
      'server-process': 'src/cli/server-process.ts',
      'token-thread': 'src/pkcs11/token-thread.ts',
    },
    outdir: `${FRESH}/cli`,
    bundle: true,
    // What a command does not use stays in files that it does not load.
    splitting: true,
    chunkNames: 'part-[hash]',
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    external: OUTSIDE,
    banner: { js: REQUIRE },
    sourcemap: true,
    sourcesContent: false,
    minifyWhitespace: true,
    minifySyntax: true,
    keepNames: true,
    plugins: [oneLanguage],
    legalComments: 'linked',
    logLevel: 'error',
  });
  chmodSync(`${FRESH}/cli/main.js`, 0o755);
  const bundles = readdirSync(`${FRESH}/cli`).filter((name) => name.endsWith('.js'));
  for (const name of bundles) keepOurSources(join(FRESH, 'cli', name));
  rmSync(OLD, { recursive: true, force: true });
  try {
    renameSync('dist', OLD);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  renameSync(FRESH, 'dist');
  rmSync(OLD, { recursive: true, force: true });
}

function modules() {
  rmSync('build/modules', { recursive: true, force: true });
  const { status } = spawnSync(process.execPath, ['node_modules/@typescript/native/bin/tsc', '-p', 'tsconfig.build.json'], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

mkdirSync('build', { recursive: true });
modules();
await bundle();
