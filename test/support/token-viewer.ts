/**
 * Looks at the token of a stopped installation directly through PKCS#11, as an auditor with the PIN would: nothing of
 * ours is between the test and the module. One viewer at a time in a process; close it, for the module is shared.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ck from 'pkcs11js';

const MODULE = '/usr/lib/softhsm/libsofthsm2.so';
const PER_FIND = 100;

export interface SeenObject {
  readonly handle: ck.Handle;
  readonly class: 'secret' | 'private' | 'public' | 'other';
  readonly label: string;
  /** CKA_ID in hex; empty for data objects, which have none. */
  readonly id: string;
}

export interface SeenToken {
  readonly label: string;
  readonly serial: string;
}

const CLASSES: ReadonlyMap<number, SeenObject['class']> = new Map([
  [ck.CKO_SECRET_KEY, 'secret'],
  [ck.CKO_PRIVATE_KEY, 'private'],
  [ck.CKO_PUBLIC_KEY, 'public'],
]);

/** What a call returned as CKR number: 0 when it succeeded. */
export function ckr(run: () => unknown): number {
  try {
    run();
    return ck.CKR_OK;
  } catch (thrown) {
    const { code, message } = thrown as { code?: unknown; message?: unknown };
    if (typeof code === 'number' && code > 0) return code;
    const match = /CKR_\w+:(\d+)/.exec(String(message));
    if (match === null) throw thrown;
    return Number(match[1]);
  }
}

export class TokenViewer {
  readonly module: ck.PKCS11;
  readonly #slots: readonly ck.Handle[];
  #session: ck.Handle | undefined;

  private constructor(module: ck.PKCS11) {
    this.module = module;
    this.#slots = module.C_GetSlotList(true).filter((slot) => {
      return ckr(() => module.C_GetTokenInfo(slot)) === ck.CKR_OK && isToken(flagsOf(module, slot));
    });
  }

  /** @param home its `softhsm/softhsm2.conf` names the token directory */
  static open(home: string): TokenViewer {
    realEnvironment.set('SOFTHSM2_CONF', join(home, 'softhsm', 'softhsm2.conf'));
    const module = new ck.PKCS11();
    module.load(MODULE);
    module.C_Initialize({ flags: ck.CKF_OS_LOCKING_OK });
    return new TokenViewer(module);
  }

  /** Runs with the token open, and closes it whatever happens. */
  static look<T>(home: string, use: (viewer: TokenViewer) => T): T {
    const viewer = TokenViewer.open(home);
    try {
      return use(viewer);
    } finally {
      viewer.close();
    }
  }

  close(): void {
    this.module.C_Finalize();
    this.module.close();
  }

  /** Initialised tokens on which somebody can log in. */
  tokens(): readonly SeenToken[] {
    return this.#slots.map((slot) => {
      const { label, serialNumber } = this.module.C_GetTokenInfo(slot);
      return { label: label.trim(), serial: serialNumber.trim() };
    });
  }

  /** The session all calls below use; of the only token. */
  get session(): ck.Handle {
    if (this.#session !== undefined) return this.#session;
    const [slot, ...others] = this.#slots;
    if (slot === undefined || others.length > 0) throw new Error(`expected one token, found ${this.#slots.length}`);
    this.#session = this.module.C_OpenSession(slot, ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION);
    return this.#session;
  }

  login(home: string): this {
    this.module.C_Login(this.session, ck.CKU_USER, readFileSync(join(home, 'softhsm', 'user.pin'), 'utf8'));
    return this;
  }

  /** Everything but data objects, which have no id. */
  objects(): readonly SeenObject[] {
    this.module.C_FindObjectsInit(this.session, [{ type: ck.CKA_TOKEN, value: true }]);
    const handles: ck.Handle[] = [];
    for (let found = this.#next(); found.length > 0; found = this.#next()) handles.push(...found);
    this.module.C_FindObjectsFinal(this.session);
    return handles.filter((handle) => this.#classOf(handle) !== ck.CKO_DATA).map((handle) => ({
      handle,
      class: CLASSES.get(this.#classOf(handle)) ?? 'other',
      label: this.raw(handle, ck.CKA_LABEL).toString('utf8'),
      id: this.raw(handle, ck.CKA_ID).toString('hex'),
    }));
  }

  #classOf(handle: ck.Handle): number {
    return Number(this.raw(handle, ck.CKA_CLASS).readBigUInt64LE());
  }

  raw(handle: ck.Handle, type: number): Buffer {
    const [attribute] = this.module.C_GetAttributeValue(this.session, handle, [{ type }]);
    return attribute?.value as unknown as Buffer;
  }

  flag(handle: ck.Handle, type: number): boolean {
    const bytes = this.raw(handle, type);
    if (bytes.length !== 1) throw new Error(`attribute 0x${type.toString(16)} is no CK_BBOOL`);
    return bytes[0] !== 0;
  }

  /** CKA_ALLOWED_MECHANISMS, ascending. */
  mechanisms(handle: ck.Handle): readonly number[] {
    const list = this.raw(handle, ck.CKA_ALLOWED_MECHANISMS);
    const count = list.length / 8;
    return Array.from({ length: count }, (_, index) => Number(list.readBigUInt64LE(index * 8))).sort((a, b) => a - b);
  }

  #next(): readonly ck.Handle[] {
    return this.module.C_FindObjects(this.session, PER_FIND);
  }
}

/** A kill in C_InitToken leaves something that says it is one, with a security officer whose PIN is locked and no user. */
function isToken(flags: number): boolean {
  if ((flags & ck.CKF_TOKEN_INITIALIZED) === 0) return false;
  return (flags & ck.CKF_SO_PIN_LOCKED) === 0 || (flags & ck.CKF_USER_PIN_INITIALIZED) !== 0;
}

function flagsOf(module: ck.PKCS11, slot: ck.Handle): number {
  return module.C_GetTokenInfo(slot).flags;
}
