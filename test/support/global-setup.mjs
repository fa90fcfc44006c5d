// jest's globalSetup: one server for the run, whose URL the workers find in KMS_TEST_POSTGRES. Where none can be
// started, only the tests that ask for it fail.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { startServer } from './postgres-server.mjs';

export default async function setup() {
  // Homes that are copied instead of made, see homes.ts.
  process.env.KMS_TEST_HOMES = await mkdtemp(join(tmpdir(), 'kms-homes-'));
  if (process.env.KMS_TEST_RING === 'check') return;
  try {
    const server = await startServer();
    globalThis.kmsTestPostgres = server;
    process.env.KMS_TEST_POSTGRES = server.url;
  } catch (error) {
    process.env.KMS_TEST_POSTGRES_FAULT = String(error);
  }
}
