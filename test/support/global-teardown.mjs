// jest's globalTeardown; runs also when tests failed.
import { rm } from 'node:fs/promises';
import process from 'node:process';

export default async function teardown() {
  await globalThis.kmsTestPostgres?.remove();
  await rm(process.env.KMS_TEST_HOMES, { recursive: true, force: true });
}
