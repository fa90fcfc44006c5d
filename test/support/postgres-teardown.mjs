// jest's globalTeardown; runs also when tests failed.
export default async function teardown() {
  await globalThis.kmsTestPostgres?.remove();
}
