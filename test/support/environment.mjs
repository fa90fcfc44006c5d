// Inside jest's sandbox process.env is a copy that native code never sees: SoftHSM would read the real one and
// open the machine's default token store. This class runs outside the sandbox, so it closes that door and lets
// tests write the real environment. It starts no token; suites do that themselves.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { TestEnvironment } from 'jest-environment-node';
import { measure } from './costs.mjs';

export default class KmsEnvironment extends TestEnvironment {
  #before = new Map();
  #directory;
  #path;
  #measured;

  constructor(config, context) {
    super(config, context);
    this.#path = context.testPath;
  }

  async setup() {
    this.#measured = measure(this.#path);
    await super.setup();
    this.#directory = await mkdtemp(join(tmpdir(), 'kms-test-'));
    this.#set('SOFTHSM2_CONF', join(this.#directory, 'not-set-by-this-test.conf'));
    this.global.realEnvironment = Object.freeze({
      get: (name) => process.env[name],
      set: (name, value) => this.#set(name, value),
    });
  }

  async teardown() {
    for (const [name, value] of this.#before) write(process.env, name, value);
    this.#before.clear();
    if (this.#directory) await rm(this.#directory, { recursive: true, force: true });
    await super.teardown();
    this.#measured?.();
  }

  #set(name, value) {
    if (!this.#before.has(name)) this.#before.set(name, process.env[name]);
    write(process.env, name, value);
    // A test that starts a child with { ...process.env } hands on the sandbox's copy.
    write(this.global.process.env, name, value);
  }
}

function write(env, name, value) {
  if (value === undefined) delete env[name];
  else env[name] = value;
}
