/** ECDSA signatures as the command-line tools want them: DER (RFC 3279 §2.2.3) from raw r‖s (RFC 7518 §3.4). */

/** @param raw 64 bytes, of P-256 */
export function derSignature(raw: Uint8Array): Uint8Array {
  const body = Buffer.concat([integer(raw.subarray(0, 32)), integer(raw.subarray(32))]);
  return Buffer.concat([Buffer.from([0x30, body.length]), body]);
}

function integer(bytes: Uint8Array): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0);
  const digits = Buffer.from(bytes.subarray(first < 0 ? bytes.length - 1 : first));
  const positive = (digits[0] ?? 0) < 0x80 ? digits : Buffer.concat([Buffer.from([0]), digits]);
  return Buffer.concat([Buffer.from([0x02, positive.length]), positive]);
}
