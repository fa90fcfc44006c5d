// jest's globalSetup: one server for the run, whose URL the workers find in KMS_TEST_POSTGRES. Where none can be
// started, only the tests that ask for it fail.
import process from 'node:process';
import { startServer } from './postgres-server.mjs';

export default async function setup() {
  try {
    const server = await startServer();
    globalThis.kmsTestPostgres = server;
    process.env.KMS_TEST_POSTGRES = server.url;
  } catch (error) {
    process.env.KMS_TEST_POSTGRES_FAULT = String(error);
  }
}
