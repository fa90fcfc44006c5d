/**
 * The narrow, typed interface of the PKCS#11 calls we use: synchronous forms only, templates and mechanisms only
 * through our own encoders, every error normalised to its number. There is no call here that could hand the
 * plaintext of a customer key to the token or change an object: C_CreateObject is reached only for public objects, for
 * data objects, which no mechanism takes for a key, and for session objects that hold a caller's bytes while they are
 * wrapped.
 *
 * Runs in token threads. One session serves one operation at a time.
 */

import ck from 'pkcs11js';
import { CryptokiError } from './cryptoki-error.ts';
import { asBuffer, nonNull } from './mechanism.ts';
import { initializeArguments } from './initialize.ts';
import type { PinLengths } from './pin-file.ts';
import type { Profile } from './profile.ts';
import { type Attribute, sessionSecret } from './template.ts';

/** Opaque to us: slots, sessions and objects are 8-byte handles of the module. */
export type Handle = ck.Handle;

export interface TokenFacts {
  readonly label: string;
  readonly serial: string;
  readonly flags: number;
  readonly pinLengths: PinLengths;
}

/** Some tokens leave out what they do not limit. */
function pinLengthsOf({ minPinLen, maxPinLen }: ck.TokenInfo): PinLengths {
  return { min: Math.max(minPinLen, 1), max: maxPinLen > 0 ? maxPinLen : Number.POSITIVE_INFINITY };
}

/**
 * Some calls throw an error with `code`, some a plain Error whose message ends in `CKR_NAME:NUMBER`, and a failed
 * load has neither.
 */
function codeOf(thrown: unknown): number {
  const { code, message } = thrown as { code?: unknown; message?: unknown };
  if (typeof code === 'number' && code > 0) return code;
  const match = /CKR_\w+:(\d+)/.exec(String(message));
  return match ? Number(match[1]) : ck.CKR_GENERAL_ERROR;
}

function call<T>(name: string, run: () => T): T {
  try {
    return run();
  } catch (thrown) {
    throw new CryptokiError(name, codeOf(thrown));
  }
}

function encode(template: readonly Attribute[]): ck.Template {
  return template.map(({ type, value }) => ({ type, value }));
}

export class Cryptoki {
  readonly #module = new ck.PKCS11();

  /**
   * @param path absolute path of the module
   * @throws Error naming path and reason when it cannot be loaded
   */
  constructor(path: string) {
    try {
      this.#module.load(path);
    } catch (error) {
      const { message } = error as Error;
      throw new Error(`cannot load ${path}: ${message.split('\n')[0] ?? ''}`, { cause: error });
    }
  }

  /** With OS locking, see `initializeArguments`. Success when another thread of this process was first. */
  initialize(profile: Profile): void {
    try {
      call('C_Initialize', () => { this.#module.C_Initialize(initializeArguments(profile)); });
    } catch (error) {
      if ((error as CryptokiError).code !== ck.CKR_CRYPTOKI_ALREADY_INITIALIZED) throw error;
    }
  }

  /** Process-wide: only the thread that initialised, and only when no other thread is in a call. */
  finalize(): void {
    call('C_Finalize', () => { this.#module.C_Finalize(); });
  }

  slots(withToken: boolean): readonly Handle[] {
    return call('C_GetSlotList', () => this.#module.C_GetSlotList(withToken));
  }

  tokenFacts(slot: Handle): TokenFacts {
    const info = call('C_GetTokenInfo', () => this.#module.C_GetTokenInfo(slot));
    return { label: info.label.trim(), serial: info.serialNumber.trim(), flags: info.flags, pinLengths: pinLengthsOf(info) };
  }

  initToken(slot: Handle, soPin: string, label: string): void {
    call('C_InitToken', () => this.#module.C_InitToken(slot, soPin, label));
  }

  initPin(session: Handle, pin: string): void {
    call('C_InitPIN', () => { this.#module.C_InitPIN(session, pin); });
  }

  openSession(slot: Handle): Handle {
    return call('C_OpenSession', () =>
      this.#module.C_OpenSession(slot, ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION));
  }

  closeSession(session: Handle): void {
    call('C_CloseSession', () => { this.#module.C_CloseSession(session); });
  }

  /** Success when the application is logged in already: login is a state of the whole process. */
  login(session: Handle, user: 'user' | 'so', pin: string): void {
    const type = user === 'user' ? ck.CKU_USER : ck.CKU_SO;
    try {
      call('C_Login', () => { this.#module.C_Login(session, type, pin); });
    } catch (error) {
      if ((error as CryptokiError).code !== ck.CKR_USER_ALREADY_LOGGED_IN) throw error;
    }
  }

  logout(session: Handle): void {
    call('C_Logout', () => { this.#module.C_Logout(session); });
  }

  /** Linear in the number of all objects on the token: never on the request path. */
  find(session: Handle, template: readonly Attribute[]): readonly Handle[] {
    call('C_FindObjectsInit', () => { this.#module.C_FindObjectsInit(session, encode(template)); });
    try {
      const found: Handle[] = [];
      for (let more = this.#next(session); more.length > 0; more = this.#next(session)) found.push(...more);
      return found;
    } finally {
      call('C_FindObjectsFinal', () => { this.#module.C_FindObjectsFinal(session); });
    }
  }

  #next(session: Handle): readonly Handle[] {
    return call('C_FindObjects', () => this.#module.C_FindObjects(session, 1000));
  }

  /** One attribute in its raw form; one unreadable attribute would fail a whole template. */
  attribute(session: Handle, object: Handle, type: number): Buffer {
    const [read] = call('C_GetAttributeValue', () =>
      this.#module.C_GetAttributeValue(session, object, [{ type }]));
    return read?.value ?? Buffer.alloc(0);
  }

  generateKey(session: Handle, mechanism: number, template: readonly Attribute[]): Handle {
    return call('C_GenerateKey', () => this.#module.C_GenerateKey(session, { mechanism }, encode(template)));
  }

  generateKeyPair(
    session: Handle,
    mechanism: number,
    publicTemplate: readonly Attribute[],
    privateTemplate: readonly Attribute[],
  ): ck.KeyPair {
    return call('C_GenerateKeyPair', () =>
      this.#module.C_GenerateKeyPair(session, { mechanism }, encode(publicTemplate), encode(privateTemplate)));
  }

  /** Public data only; the class is set here. */
  createPublicObject(session: Handle, template: readonly Attribute[]): Handle {
    const object = [{ type: ck.CKA_CLASS, value: ck.CKO_PUBLIC_KEY }, ...template];
    return call('C_CreateObject', () => this.#module.C_CreateObject(session, encode(object)));
  }

  /** A caller's bytes as a session object that can be wrapped and nothing else; never a key of ours. */
  createSessionSecret(session: Handle, bytes: Uint8Array): Handle {
    const object = [...sessionSecret(true), { type: ck.CKA_VALUE, value: asBuffer(bytes) }];
    return call('C_CreateObject', () => this.#module.C_CreateObject(session, encode(object)));
  }

  /** Bytes of the service itself, never a key; the class is set here. */
  createDataObject(session: Handle, template: readonly Attribute[]): Handle {
    const object = [{ type: ck.CKA_CLASS, value: ck.CKO_DATA }, ...template.filter(({ type }) => type !== ck.CKA_CLASS)];
    return call('C_CreateObject', () => this.#module.C_CreateObject(session, encode(object)));
  }

  destroyObject(session: Handle, object: Handle): void {
    call('C_DestroyObject', () => { this.#module.C_DestroyObject(session, object); });
  }

  /** @param room bytes of the largest result; the result has memory of its own. */
  encrypt(session: Handle, mechanism: ck.Mechanism, key: Handle, data: Uint8Array, room: number): Buffer {
    call('C_EncryptInit', () => { this.#module.C_EncryptInit(session, mechanism, key); });
    return result('C_Encrypt', room, (out) => this.#module.C_Encrypt(session, nonNull(data), out));
  }

  decrypt(session: Handle, mechanism: ck.Mechanism, key: Handle, data: Uint8Array, room: number): Buffer {
    call('C_DecryptInit', () => { this.#module.C_DecryptInit(session, mechanism, key); });
    return result('C_Decrypt', room, (out) => this.#module.C_Decrypt(session, nonNull(data), out));
  }

  sign(session: Handle, mechanism: ck.Mechanism, key: Handle, data: Uint8Array, room: number): Buffer {
    call('C_SignInit', () => { this.#module.C_SignInit(session, mechanism, key); });
    return result('C_Sign', room, (out) => this.#module.C_Sign(session, nonNull(data), out));
  }

  /** @throws CryptokiError CKR_SIGNATURE_INVALID or CKR_SIGNATURE_LEN_RANGE when it does not verify */
  verify(session: Handle, mechanism: ck.Mechanism, key: Handle, data: Uint8Array, signature: Uint8Array): void {
    call('C_VerifyInit', () => { this.#module.C_VerifyInit(session, mechanism, key); });
    call('C_Verify', () => this.#module.C_Verify(session, nonNull(data), nonNull(signature)));
  }

  wrapKey(session: Handle, mechanism: ck.Mechanism, wrapping: Handle, key: Handle, room: number): Buffer {
    return result('C_WrapKey', room, (out) => this.#module.C_WrapKey(session, mechanism, wrapping, key, out));
  }

  /** The template must be for a session object or a complete one; see template.ts for the order. */
  unwrapKey(
    session: Handle,
    mechanism: ck.Mechanism,
    unwrapping: Handle,
    wrapped: Uint8Array,
    template: readonly Attribute[],
  ): Handle {
    return call('C_UnwrapKey', () =>
      this.#module.C_UnwrapKey(session, mechanism, unwrapping, asBuffer(wrapped), encode(template)));
  }

  generateRandom(session: Handle, bytes: number): Buffer {
    return result('C_GenerateRandom', bytes, (out) => this.#module.C_GenerateRandom(session, out));
  }
}

/**
 * An output buffer of length 0 is a size query that leaves the operation active, hence at least one byte. The result
 * is a view: when it is shorter than the buffer it is copied, so that no message between threads carries the rest.
 */
function result(name: string, room: number, run: (out: Buffer) => Buffer): Buffer {
  const out = Buffer.allocUnsafeSlow(Math.max(room, 1));
  const written = call(name, () => run(out));
  if (written.length === out.length) return out;
  const copy = Buffer.allocUnsafeSlow(written.length);
  written.copy(copy);
  out.fill(0);
  return copy;
}
