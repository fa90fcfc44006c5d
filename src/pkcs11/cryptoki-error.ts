/** A failed PKCS#11 call. `code` is the CKR number; messages of the binding are never relied on. */
export class CryptokiError extends Error {
  override readonly name = 'CryptokiError';
  readonly code: number;
  readonly call: string;

  constructor(call: string, code: number) {
    super(`${call}: CKR 0x${code.toString(16)}`);
    this.call = call;
    this.code = code;
  }
}
