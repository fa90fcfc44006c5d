// Compares two runs of the tests, file by file: `node scripts/compare-tests.mjs BEFORE.json AFTER.json`, each made by
// `npm test -- --json --outputFile=FILE`. Counts tests and assertions, names every test that is gone, and exits 1 when a
// file has lost one of either. Numbers in the names of tests are repetitions, and count as the same.
import { readFileSync } from 'node:fs';
import process from 'node:process';

const [before, after] = process.argv.slice(2, 4).map(read);

/** @returns test file to its tests */
function read(path) {
  const { testResults } = JSON.parse(readFileSync(path, 'utf8'));
  return new Map(testResults.map(({ name, assertionResults }) => [
    name.slice(name.lastIndexOf('/test/') + 1),
    assertionResults.filter(({ status }) => status === 'passed').map(({ fullName, numPassingAsserts = 0 }) => ({ name: fullName, asserts: numPassingAsserts })),
  ]));
}

function assertions(tests) {
  return tests.reduce((sum, { asserts }) => sum + asserts, 0);
}

const plain = (name) => name.replaceAll(/\d+/g, 'N');

let lost = 0;
const total = { tests: [0, 0], asserts: [0, 0] };
for (const file of [...new Set([...before.keys(), ...after.keys()])].sort()) {
  const [old, now] = [before.get(file) ?? [], after.get(file) ?? []];
  total.tests[0] += old.length;
  total.tests[1] += now.length;
  total.asserts[0] += assertions(old);
  total.asserts[1] += assertions(now);
  const names = new Set(now.map(({ name }) => plain(name)));
  const gone = [...new Set(old.map(({ name }) => plain(name)))].filter((name) => !names.has(name));
  const fewer = now.length < old.length || assertions(now) < assertions(old);
  if (fewer || gone.length > 0) lost += 1;
  const mark = fewer || gone.length > 0 ? 'FEWER' : '     ';
  console.log(`${mark} ${file}: tests ${old.length} -> ${now.length}, assertions ${assertions(old)} -> ${assertions(now)}`);
  for (const name of gone) console.log(`        gone: ${name}`);
}
console.log(`all: tests ${total.tests.join(' -> ')}, assertions ${total.asserts.join(' -> ')}; ${lost} files have fewer`);
process.exitCode = lost === 0 ? 0 : 1;
