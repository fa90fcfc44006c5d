// Runs PKCS#11 calls for `shim.test.ts` in a process of its own: each message names a step and its values, each answer
// says what became of it. A step is one of `steps`, or a method of the binding with its arguments.
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import process from 'node:process';
import { URL } from 'node:url';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import ck from 'pkcs11js';

const path = isMainThread ? process.argv[2] : workerData.path;
const module = new ck.PKCS11();
module.load(path);

const AES = { class: ck.CKO_SECRET_KEY, keyType: ck.CKK_AES };
const IV = Buffer.alloc(16, 7);
let session;

/** Initialise, find the slot of the token, open a session; log in when there is a PIN. */
function start(pin) {
  module.C_Initialize({ flags: ck.CKF_OS_LOCKING_OK });
  const slot = module.C_GetSlotList(true).find((one) => module.C_GetTokenInfo(one).label.trim() === 'fault');
  open(slot);
  if (pin !== undefined) module.C_Login(session, ck.CKU_USER, pin);
  return slot;
}

function open(slot) {
  session = module.C_OpenSession(slot, ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION);
  return session;
}

function createAes(id, token = true) {
  return module.C_GenerateKey(session, { mechanism: ck.CKM_AES_KEY_GEN }, [
    { type: ck.CKA_CLASS, value: AES.class },
    { type: ck.CKA_KEY_TYPE, value: AES.keyType },
    { type: ck.CKA_TOKEN, value: token },
    { type: ck.CKA_PRIVATE, value: true },
    { type: ck.CKA_ID, value: Buffer.from(id) },
    { type: ck.CKA_VALUE_LEN, value: 32 },
    { type: ck.CKA_EXTRACTABLE, value: true },
  ]);
}

function createPair(id, bits = 2048) {
  const usage = { type: ck.CKA_ID, value: Buffer.from(id) };
  const pair = module.C_GenerateKeyPair(
    session,
    { mechanism: ck.CKM_RSA_PKCS_KEY_PAIR_GEN },
    [usage, { type: ck.CKA_TOKEN, value: true }, { type: ck.CKA_MODULUS_BITS, value: bits },
      { type: ck.CKA_PUBLIC_EXPONENT, value: Buffer.from([1, 0, 1]) }],
    [usage, { type: ck.CKA_TOKEN, value: true }, { type: ck.CKA_PRIVATE, value: true }],
  );
  return [pair.publicKey, pair.privateKey];
}

function find(id, objectClass = AES.class) {
  module.C_FindObjectsInit(session, [
    { type: ck.CKA_CLASS, value: objectClass },
    { type: ck.CKA_ID, value: Buffer.from(id) },
  ]);
  try {
    return module.C_FindObjects(session, 10);
  } finally {
    module.C_FindObjectsFinal(session);
  }
}

/** AES-CBC with a fixed IV, so that the same key gives the same ciphertext. */
function encrypt(key, text) {
  module.C_EncryptInit(session, { mechanism: ck.CKM_AES_CBC_PAD, parameter: IV }, asBuffer(key));
  return Buffer.from(module.C_Encrypt(session, Buffer.from(text), Buffer.alloc(text.length + 32)));
}

function decrypt(key, data) {
  module.C_DecryptInit(session, { mechanism: ck.CKM_AES_CBC_PAD, parameter: IV }, asBuffer(key));
  return module.C_Decrypt(session, asBuffer(data), Buffer.alloc(data.length)).toString();
}

function sign(key, text, mechanism = ck.CKM_SHA256_RSA_PKCS) {
  module.C_SignInit(session, { mechanism }, asBuffer(key));
  return Buffer.from(module.C_Sign(session, Buffer.from(text), Buffer.alloc(512)));
}

function wrap(wrapping, key) {
  const out = module.C_WrapKey(session, { mechanism: 0x2109 }, asBuffer(wrapping), asBuffer(key), Buffer.alloc(64));
  return Buffer.from(out);
}

function unwrap(wrapping, wrapped) {
  return module.C_UnwrapKey(session, { mechanism: 0x2109 }, asBuffer(wrapping), asBuffer(wrapped), [
    { type: ck.CKA_CLASS, value: AES.class },
    { type: ck.CKA_KEY_TYPE, value: AES.keyType },
    { type: ck.CKA_TOKEN, value: false },
    { type: ck.CKA_ENCRYPT, value: true },
    { type: ck.CKA_EXTRACTABLE, value: true },
  ]);
}

/** Codes of `count` calls of C_GenerateRandom, 0 for success. */
function randoms(count) {
  return Array.from({ length: count }, () => codeOf(() => module.C_GenerateRandom(session, Buffer.alloc(8))));
}

/** Calls C_GenerateRandom until it fails. @returns when the last good call began, in nanoseconds of the machine; 0 for none */
function untilFailure() {
  for (let good = 0n; ;) {
    const began = process.hrtime.bigint();
    if (codeOf(() => module.C_GenerateRandom(session, Buffer.alloc(8))) !== 0) return good;
    good = began;
  }
}

/**
 * Mixed calls whose results depend on nothing but the token.
 * @returns a hash over all results, and how often each kind of call answered what
 */
function mixed(count, keys) {
  const { aes, other, publicKey, privateKey } = keys;
  const calls = [
    (text) => encrypt(aes, text),
    (text) => decrypt(aes, encrypt(aes, text)),
    (text) => encrypt(other, text),
    (text) => module.C_Digest(...digestInit(), Buffer.from(text), Buffer.alloc(32)),
    (text) => wrap(other, unwrap(other, wrap(other, aes))).toString('hex') + text,
    () => find('a').length + find('b').length + find('none').length,
    () => module.C_GetAttributeValue(session, asBuffer(aes), [{ type: ck.CKA_ID }, { type: ck.CKA_VALUE_LEN }]).map((one) => one.value),
    () => module.C_GetAttributeValue(session, asBuffer(publicKey), [{ type: ck.CKA_MODULUS }])[0].value,
    (text) => verify(publicKey, text, sign(privateKey, text)),
    (text) => verify(publicKey, text, Buffer.alloc(256, 1)),
    () => decrypt(aes, Buffer.alloc(15)),
    () => module.C_EncryptInit(session, { mechanism: 0x80001234 }, asBuffer(aes)),
    () => module.C_GetSessionInfo(Buffer.alloc(8, 0xee)),
    () => module.C_EncryptInit(session, { mechanism: ck.CKM_AES_CBC_PAD, parameter: IV }, Buffer.alloc(8, 0xee)),
    () => module.C_GetAttributeValue(session, asBuffer(privateKey), [{ type: ck.CKA_PRIVATE_EXPONENT }]),
    () => module.C_DestroyObject(session, createAes('temporary', false)),
    () => module.C_GetMechanismList(module.C_GetSlotList(true)[0]),
    () => module.C_GetTokenInfo(module.C_GetSlotList(true)[0]).label,
    () => module.C_GenerateRandom(session, Buffer.alloc(40)).length,
  ];
  const hash = createHash('sha256');
  const codes = {};
  for (let i = 0; i < count; i++) {
    const kind = (i * 7 + (i >> 5)) % calls.length;
    const outcome = outcomeOf(() => calls[kind](`text ${i}`));
    const code = outcome.code ?? 0;
    codes[`${kind}: ${code}`] = (codes[`${kind}: ${code}`] ?? 0) + 1;
    hash.update(JSON.stringify([i, code, outcome.value ?? null]));
    // A failed operation leaves the session busy; a new one is what an application takes.
    if (code !== 0) reopen();
  }
  return { hash: hash.digest('hex'), codes };
}

function digestInit() {
  module.C_DigestInit(session, { mechanism: ck.CKM_SHA256 });
  return [session];
}

function verify(key, text, signature) {
  module.C_VerifyInit(session, { mechanism: ck.CKM_SHA256_RSA_PKCS }, asBuffer(key));
  return module.C_Verify(session, Buffer.from(text), signature);
}

function reopen() {
  const old = session;
  open(module.C_GetSlotList(true)[0]);
  module.C_CloseSession(old);
}

/** Encrypts, lists and creates in `count` worker threads at once. @returns by thread: good calls, wrong results, codes */
function threads(count, rounds, key, expected) {
  return Promise.all(Array.from({ length: count }, () => new Promise((done, failed) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { path, rounds, key, expected } });
    worker.once('message', done);
    worker.once('error', failed);
  })));
}

function work({ rounds, key, expected }) {
  const slot = module.C_GetSlotList(true)[0];
  open(slot);
  const result = { good: 0, wrong: 0, codes: {} };
  for (let i = 0; i < rounds; i++) {
    const { code, value } = outcomeOf(() => {
      const found = find('a').length;
      module.C_DestroyObject(session, unwrap(key, wrap(key, key)));
      return [found, encrypt(key, 'threads')];
    });
    if (code === undefined && value[0] === 1 && value[1].equals(asBuffer(expected))) result.good++;
    else if (code === undefined) result.wrong++;
    else result.codes[code] = (result.codes[code] ?? 0) + 1;
    if (code !== undefined) open(slot);
  }
  return result;
}

function asBuffer(bytes) {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function outcomeOf(run) {
  try {
    return { value: run() };
  } catch (error) {
    const code = error.code > 0 ? error.code : Number(/CKR_\w+:(\d+)/.exec(error.message)?.[1] ?? -1);
    return { code, message: error.message };
  }
}

function codeOf(run) {
  return outcomeOf(run).code ?? 0;
}

const steps = {
  ...{ start, open, createAes, createPair, find, encrypt, decrypt, sign, wrap, unwrap, randoms, untilFailure, mixed },
  ...{ reopen, threads },
  /** Labels of all tokens of a module that wants parameters; the binding drops the last character. */
  labels: (libraryParameters) => {
    module.C_Initialize({ flags: ck.CKF_OS_LOCKING_OK, libraryParameters: `${libraryParameters} ` });
    return module.C_GetSlotList(true).map((slot) => module.C_GetTokenInfo(slot).label.trim());
  },
  finalize: () => module.C_Finalize(),
  random: (length) => module.C_GenerateRandom(session, Buffer.alloc(length)),
  attribute: (key, type) => module.C_GetAttributeValue(session, asBuffer(key), [{ type }])[0].value,
  destroy: (key) => module.C_DestroyObject(session, asBuffer(key)),
  login: (pin) => module.C_Login(session, ck.CKU_USER, pin),
  sessionInfo: (handle) => module.C_GetSessionInfo(handle === undefined ? session : asBuffer(handle)).state,
  mechanisms: () => module.C_GetMechanismList(module.C_GetSlotList(true)[0]),
  mechanismInfo: (type) => module.C_GetMechanismInfo(module.C_GetSlotList(true)[0], type).flags,
  generateWith: (mechanism) => module.C_GenerateKey(session, { mechanism }, []),
};

if (isMainThread) {
  process.on('message', async ([step, ...values]) => {
    const began = process.hrtime.bigint();
    const outcome = outcomeOf(() => steps[step](...values));
    const milliseconds = () => Number(process.hrtime.bigint() - began) / 1e6;
    if (outcome.value instanceof Promise) outcome.value = await outcome.value;
    process.send({ ...outcome, milliseconds: milliseconds() });
  });
  process.on('disconnect', () => process.exit());
} else {
  parentPort.postMessage(work(workerData));
}
