/** Files that the package carries beside its programs, wherever those are: bundles below dist/, modules below build/. */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = rootAbove(dirname(fileURLToPath(import.meta.url)));

function rootAbove(directory: string): string {
  if (existsSync(join(directory, 'package.json'))) return directory;
  const above = dirname(directory);
  if (above === directory) throw new Error('these programs are not in their package: there is no package.json above them');
  return rootAbove(above);
}

/** @param path relative to the package @returns absolute */
export function packageFile(path: string): string {
  return join(ROOT, path);
}

export function packageVersion(): string {
  return (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }).version;
}
