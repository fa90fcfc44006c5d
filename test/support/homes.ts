/**
 * Homes of new development installations without the price of `kms init`: made once in a run, and copied with their
 * token. Copies have one identity; a test that needs two installations which differ makes one afresh. Those on
 * PostgreSQL are always made afresh, for a copied database is one that the service refuses.
 */

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from './wait.ts';

const run = promisify(execFile);
const MAIN = resolve('dist/cli/main.js');

/** What the files of the template say, and no copy keeps. */
const PORT = 61_443;
/** Files that hold paths of the home, or its port. */
const TOLD = ['softhsm/softhsm2.conf', 'kms.yaml', 'okms.yaml', 'clients/admin.json'];

/** @param home an empty directory @param port of the API */
export async function copyHome(home: string, port: number): Promise<void> {
  const template = await templateHome();
  await run('cp', ['-a', `${template}/.`, home]);
  for (const name of TOLD) {
    const path = join(home, name);
    const text = readFileSync(path, 'utf8').replaceAll(template, home).replaceAll(`localhost:${PORT}`, `localhost:${port}`);
    writeFileSync(path, text);
  }
}

/** The first worker that asks makes it, the others wait. */
async function templateHome(): Promise<string> {
  const root = process.env['KMS_TEST_HOMES'];
  if (root === undefined) throw new Error('jest’s globalSetup did not run');
  const home = join(root, 'sqlite');
  const said = `${home}.made`;
  try {
    mkdirSync(home);
  } catch {
    await eventually('the template home', () => existsSync(said), 300_000);
    const failure = readFileSync(said, 'utf8');
    if (failure !== '') throw new Error(failure);
    return home;
  }
  let failure = '';
  try {
    await run(process.execPath, [MAIN, 'init', '--dev'], { env: { PATH: process.env['PATH'], KMS_HOME: home, KMS_PORT: String(PORT) } });
    return home;
  } catch (error) {
    failure = `the template home cannot be made: ${String(error)}`;
    throw error;
  } finally {
    writeFileSync(`${said}.new`, failure);
    renameSync(`${said}.new`, said);
  }
}
