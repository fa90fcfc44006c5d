/**
 * An HSM profile: what a PKCS#11 module can do and how it differs, as data (design §11). One YAML file per module in
 * `hsm-config/`. Vendor differences are declared here and nowhere else.
 */

import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { KmsError } from '../errors.ts';

const schema = z.strictObject({
  name: z.string(),
  /** `tested`: the suites ran on it. `documented`: written from documentation, not run. */
  status: z.enum(['tested', 'documented']),
  /** Absolute path of the shared library. */
  module: z.string().startsWith('/'),
  /** Variables the module reads when it is initialised. */
  environment: z.record(z.string(), z.string()),
  /** CK_C_INITIALIZE_ARGS.LibraryParameters. */
  libraryParameters: z.string(),
  canInitialiseToken: z.boolean(),
  /** Sessions the token allows; 0 for no limit. */
  maxSessions: z.int().min(0),
  /** Who makes the IV of AES-GCM. */
  gcm: z.strictObject({ iv: z.enum(['host']) }),
  keyWrap: z.strictObject({
    /** Mechanism id of RFC 3394 key wrap. */
    kw: z.int(),
    /** Mechanism id of RFC 5649 key wrap with padding. */
    kwp: z.int(),
    /** Whether the token offers them through C_WrapKey/C_UnwrapKey on objects, or through C_Encrypt/C_Decrypt. */
    by: z.enum(['object', 'encrypt']),
  }),
  importOaepHash: z.enum(['sha1', 'sha256']),
  curves: z.array(z.enum(['P-256', 'P-384', 'P-521'])),
  /** Bytes one C_GenerateRandom call may ask for. */
  maxRandom: z.int().min(32),
  /** `attributes.hsmPlatform` of the Key Vault door. */
  hsmPlatform: z.string(),
});

export type Profile = Readonly<z.infer<typeof schema>>;

/** CKF_OS_LOCKING_OK: without it SoftHSM's locks are off and two threads corrupt memory. */
const OS_LOCKING_OK = 2;

/** Arguments of C_Initialize. */
export function initializeArguments({ libraryParameters }: Profile): {
  readonly flags: number;
  readonly libraryParameters?: string;
} {
  // SoftHSM refuses a parameter; the binding drops the last character of one.
  return libraryParameters === '' ? { flags: OS_LOCKING_OK } : { flags: OS_LOCKING_OK, libraryParameters: `${libraryParameters} ` };
}

/**
 * @param path of the YAML file
 * @param variables replaced where the file says `${NAME}`
 * @throws KmsError `internal` naming file and member when the profile is not valid
 */
export function loadProfile(path: string, variables: Readonly<Record<string, string>>): Profile {
  const text = readFileSync(path, 'utf8').replace(/\$\{(\w+)\}/g, (whole, name: string) => variables[name] ?? whole);
  const parsed = schema.safeParse(parse(text));
  if (parsed.success) return Object.freeze(parsed.data);
  throw new KmsError('internal', `HSM profile ${path}: ${z.prettifyError(parsed.error)}`);
}
