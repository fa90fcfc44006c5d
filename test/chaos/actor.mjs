// A server process of the installation without its doors, on the built package: what it is told to do it does through
// the gate, several things at once, and says what came of each. Its parent plays the supervisor.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { bind, open, packJwe } from '../../build/modules/api/okms/ciphertext.js';
import { App } from '../../build/modules/app.js';
import { authority, readCertificate } from '../../build/modules/auth/client-certificate.js';
import { TurnClient } from '../../build/modules/cli/turn-client.js';
import { loadConfig } from '../../build/modules/config.js';

const DRAIN_MS = 10_000;
const JWE = { kind: 'ciphertext', context: '' };
const USAGES = { oct: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey', 'sign', 'verify'], EC: ['sign', 'verify'] };
const PLAIN = { enabled: true, nbfMs: null, expMs: null, tags: [] };
const SHAPES = { oct: { kind: 'oct', bits: 256, curve: null }, EC: { kind: 'EC', bits: null, curve: 'P-256' } };

const tell = (message) => {
  if (process.connected) process.send(message);
};
const turns = new TurnClient(tell);

// Turns are needed before the App is there.
let receive = ({ kind, what }) => {
  if (kind === 'turn') turns.granted(what);
};
process.on('message', (message) => receive(message));
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));

const config = loadConfig(process.env);
const app = await App.start(config, {
  lost: (reason) => tell({ kind: 'lost', reason }),
  waiting: () => turns.over('login'),
  loggedIn: () => turns.over('login'),
  mayLogin: () => turns.ask('login'),
  exclusively: (run) => turns.change(run),
});
tell({ kind: 'started' });
await app.whenReady();
const admin = new X509Certificate(readFileSync(process.env.ADMIN_CERTIFICATE));
const principal = await identified(readCertificate(admin.raw, [authority(app.installation.accessCa)]));

const acts = {
  create: (call, { keyId, type }) =>
    app.services.lifecycle.create(call, { id: keyId, name: null, namedHsm: true, label: 'chaos', context: null, ...PLAIN, usages: USAGES[type], ...SHAPES[type] }).then(seen),
  rotate: (call, { keyId }) => app.services.lifecycle.rotate(call, keyId).then(seen),
  get: (call, { keyId }) => app.services.lifecycle.get(call, keyId).then(seen),
  activate: (call, { keyId }) => app.services.lifecycle.activate(call, keyId).then(seen),
  deactivate: (call, { keyId }) => app.services.lifecycle.deactivate(call, keyId, 'superseded').then(seen),
  delete: (call, { keyId }) => app.services.lifecycle.delete(call, keyId),
  encrypt: async (call, { keyId, text }) => packJwe(await app.services.operations.encrypt(call, keyId, bind(JWE), Buffer.from(text))),
  decrypt: async (call, { keyId, text }) => Buffer.from(await app.services.operations.decrypt(call, keyId, open(text, JWE))).toString(),
  sign: async (call, { keyId, text }) =>
    Buffer.from(await app.services.operations.sign(call, keyId, { alg: 'ES256', message: Buffer.from(text), isDigest: false })).toString('base64'),
};

function seen({ state, versions }) {
  return {
    state,
    versions: versions.map(({ id, ordinal, publicKey, objects }) => ({
      id,
      ordinal,
      publicKey: publicKey === null ? null : Buffer.from(publicKey).toString('base64'),
      objectIds: objects.map(({ objectId }) => objectId),
    })),
  };
}

receive = (message) => {
  if (message.kind === 'turn') turns.granted(message.what);
  if (message.kind === 'do') void act(message);
  if (message.kind === 'drain') void drain();
};

/** The store may be far for a moment where processes start side by side. */
async function identified(facts) {
  for (;;) {
    try {
      return await app.gate.entrance.identify(facts);
    } catch (error) {
      if (error.code !== 'store-unavailable') throw error;
      await sleep(100);
    }
  }
}

async function act({ step }) {
  tell({ kind: 'begun', id: step.id });
  try {
    const vault = await app.gate.entrance.enter(principal, null);
    const call = { principal, vault, requestId: step.id, source: '127.0.0.1' };
    tell({ kind: 'done', id: step.id, value: await acts[step.act](call, step) });
  } catch (error) {
    tell({ kind: 'failed', id: step.id, code: error.code ?? 'no KmsError', message: String(error.stack) });
  }
}

async function drain() {
  const result = await app.drain(DRAIN_MS);
  // The parent sees by the exit code whether the end was clean.
  process.exit(result === 'clean' ? 0 : 1);
}

tell({ kind: 'ready' });
