/**
 * The token of a running test, seen past our layer: a session of the jest process beside those of the token threads,
 * in whose login it shares. For counting, reading flags, and doing what somebody with the PIN could do.
 */

import ck from 'pkcs11js';
import type { Profile } from '../../src/pkcs11/token.ts';

const PER_FIND = 1000;

export class RawToken {
  readonly module: ck.PKCS11;
  readonly session: ck.Handle;

  /** The token threads have initialised the module and logged in. */
  constructor(profile: Profile, tokenLabel: string) {
    this.module = new ck.PKCS11();
    this.module.load(profile.module);
    const slot = this.module.C_GetSlotList(true).find((one) => this.#labelOf(one) === tokenLabel);
    if (slot === undefined) throw new Error(`no token ${tokenLabel}`);
    this.session = this.module.C_OpenSession(slot, ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION);
  }

  #labelOf(slot: ck.Handle): string {
    return this.module.C_GetTokenInfo(slot).label.trim();
  }

  find(template: ck.Template): readonly ck.Handle[] {
    this.module.C_FindObjectsInit(this.session, template);
    try {
      const found: ck.Handle[] = [];
      for (let more = this.#next(); more.length > 0; more = this.#next()) found.push(...more);
      return found;
    } finally {
      this.module.C_FindObjectsFinal(this.session);
    }
  }

  #next(): readonly ck.Handle[] {
    return this.module.C_FindObjects(this.session, PER_FIND);
  }

  /** Number of objects: permanent ones, or those that live in sessions of this process. */
  count(where: 'token' | 'session'): number {
    return this.find([{ type: ck.CKA_TOKEN, value: where === 'token' }]).length;
  }

  withId(objectId: string): readonly ck.Handle[] {
    return this.find([{ type: ck.CKA_TOKEN, value: true }, { type: ck.CKA_ID, value: Buffer.from(objectId, 'hex') }]);
  }

  /** The only object of this class with this id. */
  one(objectId: string, objectClass: number): ck.Handle {
    const found = this.withId(objectId).filter((handle) => this.number(handle, ck.CKA_CLASS) === objectClass);
    if (found.length !== 1) throw new Error(`${found.length} objects of class ${objectClass} with id ${objectId}`);
    return found[0]!;
  }

  attribute(handle: ck.Handle, type: number): Buffer {
    const [read] = this.module.C_GetAttributeValue(this.session, handle, [{ type }]);
    return read?.value as unknown as Buffer;
  }

  number(handle: ck.Handle, type: number): number {
    return Number(this.attribute(handle, type).readBigUInt64LE());
  }

  flag(handle: ck.Handle, type: number): boolean {
    const bytes = this.attribute(handle, type);
    if (bytes.length !== 1) throw new Error(`attribute 0x${type.toString(16)} is no CK_BBOOL`);
    return bytes[0] !== 0;
  }

  label(handle: ck.Handle): string {
    return this.attribute(handle, ck.CKA_LABEL).toString('utf8');
  }

  destroy(handle: ck.Handle): void {
    this.module.C_DestroyObject(this.session, handle);
  }

  /** A key of somebody else that takes the place of one of ours. */
  generateAes(objectId: string, label: string): ck.Handle {
    return this.module.C_GenerateKey(this.session, { mechanism: ck.CKM_AES_KEY_GEN }, [
      ...named(objectId, label),
      { type: ck.CKA_VALUE_LEN, value: 32 },
      { type: ck.CKA_PRIVATE, value: true },
      { type: ck.CKA_SENSITIVE, value: true },
      ...[ck.CKA_ENCRYPT, ck.CKA_DECRYPT].map((type) => ({ type, value: true })),
    ]);
  }

  /** As `generateAes`, a P-256 pair. */
  generatePair(objectId: string, label: string): void {
    const curve = { type: ck.CKA_EC_PARAMS, value: Buffer.from('06082a8648ce3d030107', 'hex') };
    this.module.C_GenerateKeyPair(
      this.session,
      { mechanism: ck.CKM_EC_KEY_PAIR_GEN },
      [...named(objectId, label), curve, { type: ck.CKA_VERIFY, value: true }],
      [...named(objectId, label), ...[ck.CKA_PRIVATE, ck.CKA_SENSITIVE, ck.CKA_SIGN].map((type) => ({ type, value: true }))],
    );
  }

  /** What somebody could leave as an anchor, or beside one. */
  createData(application: string, label: string, value: Uint8Array): ck.Handle {
    return this.module.C_CreateObject(this.session, [
      { type: ck.CKA_CLASS, value: ck.CKO_DATA },
      { type: ck.CKA_TOKEN, value: true },
      { type: ck.CKA_PRIVATE, value: true },
      { type: ck.CKA_APPLICATION, value: Buffer.from(application, 'utf8') },
      { type: ck.CKA_LABEL, value: Buffer.from(label, 'utf8') },
      { type: ck.CKA_VALUE, value: Buffer.from(value) },
    ]);
  }

  /** An object with an id that is no key. */
  createCertificate(objectId: string, label: string): ck.Handle {
    return this.module.C_CreateObject(this.session, [
      { type: ck.CKA_CLASS, value: ck.CKO_CERTIFICATE },
      { type: ck.CKA_CERTIFICATE_TYPE, value: ck.CKC_X_509 },
      ...named(objectId, label),
      { type: ck.CKA_SUBJECT, value: Buffer.from('3000', 'hex') },
      { type: ck.CKA_VALUE, value: Buffer.from('3000', 'hex') },
    ]);
  }

  dataOf(application: string): readonly ck.Handle[] {
    return this.find([
      { type: ck.CKA_CLASS, value: ck.CKO_DATA },
      { type: ck.CKA_TOKEN, value: true },
      { type: ck.CKA_APPLICATION, value: Buffer.from(application, 'utf8') },
    ]);
  }

  /** A public object: every module takes one beside a secret object with the same id. */
  createPublic(objectId: string, label: string): ck.Handle {
    return this.module.C_CreateObject(this.session, [
      { type: ck.CKA_CLASS, value: ck.CKO_PUBLIC_KEY },
      { type: ck.CKA_KEY_TYPE, value: ck.CKK_RSA },
      ...named(objectId, label),
      { type: ck.CKA_MODULUS, value: Buffer.alloc(256, 0xc5) },
      { type: ck.CKA_PUBLIC_EXPONENT, value: Buffer.from('010001', 'hex') },
    ]);
  }
}

function named(objectId: string, label: string): ck.Template {
  return [
    { type: ck.CKA_TOKEN, value: true },
    { type: ck.CKA_ID, value: Buffer.from(objectId, 'hex') },
    { type: ck.CKA_LABEL, value: Buffer.from(label, 'utf8') },
  ];
}
