/** What the runtime does with the bundles: maps stack traces to source files, and keeps compiled code where it can. */

import module from 'node:module';
import { fileURLToPath } from 'node:url';

/** Of processes that we start. */
export const NAME_SOURCE_FILES = '--enable-source-maps';

/** Stack traces name source files and their lines. */
export function nameSourceFiles(): void {
  process.setSourceMapsEnabled(true);
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
export function cacheCompiledCode(): void {
  const directory = fileURLToPath(new URL('./compiled', import.meta.url));
  const cached = (module as CompileCache).enableCompileCache?.(directory).directory;
  if (cached !== undefined) process.env['NODE_COMPILE_CACHE'] = directory;
}
