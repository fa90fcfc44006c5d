/**
 * An HSM profile: what a PKCS#11 module can do and how it differs, as data (design §11). One YAML file per module in
 * `hsm-config/`. Vendor differences are declared here and nowhere else.
 */

import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { KmsError } from '../errors.ts';

/** A PKCS#11 mechanism, return value or attribute type: 0x… in the file. */
const number = z.int().min(0).max(0xffff_ffff);

const schema = z.strictObject({
  name: z.string(),
  /** `tested`: the suites ran on it. `documented`: written from documentation, not run. */
  status: z.enum(['tested', 'documented']),
  /** Absolute path of the shared library, or a bare file name that the dynamic linker finds. */
  module: z.string(),
  /** Variables the module reads when it is initialised. */
  environment: z.record(z.string(), z.string()),
  /** CK_C_INITIALIZE_ARGS.LibraryParameters; empty for none. */
  libraryParameters: z.string(),
  /** How `tokenLabel` of the settings finds the token; serial numbers are compared once they are known. */
  token: z.strictObject({ by: z.enum(['label', 'serial']) }),
  /** CK_USER_TYPE of the login: 1 is CKU_USER. */
  userType: number,
  pin: z.strictObject({
    /** What the person who sets it must know, such as `user:password`. */
    format: z.string(),
    /** A pattern every PIN fits; checked before a login is spent on a wrong one. */
    pattern: z.string(),
  }),
  /** kms init may initialise a free slot (real HSMs are initialised in a ceremony of their vendor). */
  provision: z.enum(['free-slot', 'empty-so-pin', 'none']),
  /** Sessions the token allows; 0 for no limit. */
  maxSessions: z.int().min(0),
  readOnlySessions: z.boolean(),
  /**
   * `may-move`: the module reconnects to a restarted HSM by itself and handles may then mean other objects, so the
   * object behind a handle is asked for its id after each batch. `fixed`: they last as long as the process.
   */
  handles: z.enum(['fixed', 'may-move']),
  /** A network HSM: IVs are drawn in blocks, thread counts follow latency. */
  network: z.boolean(),
  gcm: z.strictObject({
    mechanism: number,
    /** Who makes the IV on encryption, and where the module leaves it. */
    iv: z.enum(['host', 'token-written-back', 'token-appended', 'token-prepended', 'none']),
    /** Bytes of one call. */
    maxPlaintext: z.int().min(0),
  }),
  keyWrap: z.strictObject({
    /** Mechanism id of RFC 3394 key wrap. */
    kw: number.nullable(),
    /** Mechanism id of RFC 5649 key wrap with padding. */
    kwp: number.nullable(),
    /** Lengths that key wrap with padding handles as RFC 5649 says when wrapping. */
    kwpWrap: z.enum(['any', 'multipleOf8', 'none']),
    /** How bytes of a caller are wrapped: as a session object, through C_Encrypt, or not at all. */
    dataKeyPath: z.enum(['wrap-object', 'encrypt', 'none']),
    /** Bytes of the longest wrapped value. */
    maxBytes: z.int().min(0),
  }),
  oaep: z.strictObject({
    /** Hashes the token's own OAEP knows. */
    hashes: z.array(z.enum(['sha1', 'sha256', 'sha384', 'sha512'])),
    label: z.boolean(),
    /** How RSA-OAEP-256 is served: in the token, by raw RSA in the token and unpadding here (dev only), or not. */
    sha256: z.enum(['native', 'raw', 'none']),
  }),
  /** PSS salt lengths the token accepts. */
  pssSaltLens: z.enum(['any', 'hash']),
  curves: z.array(z.enum(['P-256', 'P-384', 'P-521', 'P-256K'])),
  /** How CKA_EC_POINT is written; both forms are read. */
  ecPoint: z.enum(['der', 'raw']),
  import: z.strictObject({
    recipe: z.enum(['oaep+kwp', 'none']),
    /** Hash of the OAEP that carries the key-encryption key. */
    oaepHash: z.enum(['sha1', 'sha256']),
    /** Attribute that must hold the raw public point when an EC key is unwrapped; null for none. */
    ecPointAttribute: number.nullable(),
    /**
     * Usage flags of a private key after unwrapping: as the template states them, or all that its type knows, whatever
     * the template states. Then only the service keeps to the usages asked for: no token for customer keys.
     */
    privateUsages: z.enum(['template', 'all']),
  }),
  /** How an extractable-at-birth key becomes permanent (design §5). */
  birth: z.enum(['copy', 'unwrap', 'none']),
  /** Whether object creation must never run twice at once. */
  serialiseCreates: z.boolean(),
  /** Bytes one C_GenerateRandom call may ask for. */
  maxRandom: z.int().min(32),
  /** Attributes the module does not know, left out of every template. */
  templateOmissions: z.array(z.enum(['COPYABLE', 'ALLOWED_MECHANISMS', 'SIGN_RECOVER', 'VERIFY_RECOVER', 'DERIVE'])),
  /** Vendor codes added to the classes of return-value.ts. */
  codes: z.strictObject({
    busy: z.array(number),
    sessionLost: z.array(number),
    tokenLost: z.array(number),
    /** Answers to data that the operation does not take, a ciphertext or wrapped key among them. */
    badData: z.array(number),
  }),
  /** `attributes.hsmPlatform` of the Key Vault door. */
  hsmPlatform: z.string(),
});

export type Profile = Readonly<z.infer<typeof schema>>;

/**
 * @param path of the YAML file
 * @param variables replaced where the file says `${NAME}`
 * @throws KmsError `internal` naming file and member when the profile is not valid
 */
export function loadProfile(path: string, variables: Readonly<Record<string, string>>): Profile {
  const text = readFileSync(path, 'utf8').replace(/\$\{(\w+)\}/g, (whole, name: string) => variables[name] ?? whole);
  const parsed = schema.safeParse(parse(text), { jitless: true });
  if (parsed.success) return Object.freeze(parsed.data);
  throw new KmsError('internal', `HSM profile ${path}: ${z.prettifyError(parsed.error)}`);
}
