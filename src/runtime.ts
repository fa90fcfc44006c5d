/**
 * What the runtime does with every program of ours, before its modules are loaded: no debugger gets in, a core holds
 * nothing, stack traces name source files, and compiled code is kept where it can be.
 */

import { writeFileSync } from 'node:fs';
import module from 'node:module';
import { fileURLToPath } from 'node:url';
import { KmsError } from './errors.ts';

/** Of processes that we start. */
export const NAME_SOURCE_FILES = '--enable-source-maps';

export async function prepareRuntime(): Promise<void> {
  if (!isDebugged()) await closeInspector();
  emptyCores();
  process.setSourceMapsEnabled(true);
  cacheCompiledCode();
}

/** Before the PIN is read. @throws KmsError `forbidden` where a debugger could read it */
export function assertNotDebugged(kind: 'dev' | 'prod'): void {
  if (kind === 'dev' || !isDebugged()) return;
  throw new KmsError('forbidden', 'kind=prod does not run with --inspect, in the arguments of Node or in NODE_OPTIONS: a debugger reads PIN and plaintext');
}

/** Whether Node was asked for its inspector, by argument or environment. */
function isDebugged(): boolean {
  return [...process.execArgv, process.env['NODE_OPTIONS'] ?? ''].some((options) => /(?:^|\s)--(?:inspect|debug)/.test(options));
}

/** A signal may have come before the first statement of ours: whoever is connected is thrown out, and nobody gets in. */
async function closeInspector(): Promise<void> {
  const inspector = await import('node:inspector');
  if (inspector.url() !== undefined) inspector.close();
}

/** What a crash leaves on disk holds no memory (core(5)); processes that we start inherit it. */
function emptyCores(): void {
  try {
    writeFileSync('/proc/self/coredump_filter', '0');
  } catch {
    // Another system, or one that does not allow it: docs/production.md has the limit of the unit.
  }
}

interface CompileCache {
  /** Node 22.1 and newer. */
  readonly enableCompileCache?: (directory: string) => { readonly directory?: string };
}

/**
 * Beside the bundles, so that nobody can put code there who could not change the programs; a shared directory such as
 * Node's own default below /tmp is not that. Where it cannot be written, nothing is cached. Processes that we start find
 * it in their environment.
 */
function cacheCompiledCode(): void {
  const directory = fileURLToPath(new URL('./compiled', import.meta.url));
  const cached = (module as CompileCache).enableCompileCache?.(directory).directory;
  if (cached !== undefined) process.env['NODE_COMPILE_CACHE'] = directory;
}
