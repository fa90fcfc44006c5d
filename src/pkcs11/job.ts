/**
 * What travels between the event loop and the token threads. Plain data only: everything here survives structured
 * clone, and every byte array has memory of its own (a view would carry its whole backing store along).
 */

import type { Mechanism } from './mechanism.ts';
import type { Profile } from './profile.ts';
import type { Purpose } from './template.ts';

/** An object handle as a number of any size; Buffers cost more to clone. */
export type ObjectHandle = bigint;

/** What C_GenerateKey or C_GenerateKeyPair shall make. */
export type Generation =
  | { readonly type: 'aes'; readonly bits: 128 | 192 | 256; readonly purpose: Purpose }
  /** A generic secret of 64 random bytes. */
  | { readonly type: 'secret'; readonly purpose: Purpose }
  | { readonly type: 'rsa'; readonly bits: 2048 | 3072 | 4096; readonly purpose: Purpose }
  | { readonly type: 'ec'; readonly curve: Curve; readonly purpose: Purpose };

export type Curve = Profile['curves'][number];

/** One entry of a bulk listing. */
export interface ListedObject {
  readonly handle: ObjectHandle;
  readonly objectId: string;
  readonly part: Part;
}

/** Which object of one CKA_ID is meant: the halves of a key pair share the id. */
export type Part = 'secret' | 'private' | 'public';

/** A data object of the token (CKO_DATA). */
export interface DataObject {
  readonly handle: ObjectHandle;
  readonly label: string;
  /** Empty for an object that was left without one. */
  readonly value: Uint8Array;
}

/** Longest CKA_VALUE of a data object, in bytes: small HSMs keep no more. */
export const DATA_VALUE_MAX = 512;

/** One key object of the token, ours or not. */
export interface SurveyedObject {
  /** CKA_ID, hex; empty when the object has none or does not give it. */
  readonly objectId: string;
  readonly part: Part;
  /** Null when the object does not give it. */
  readonly label: string | null;
  /** Null for a public object, and when the object does not give it. */
  readonly extractable: boolean | null;
}

/** Public half as the token stores it. `point` is DER or raw, as the module gives it. */
export type PublicAttributes =
  | { readonly type: 'rsa'; readonly modulus: Uint8Array; readonly exponent: Uint8Array }
  | { readonly type: 'ec'; readonly point: Uint8Array };

/** Whether the objects of a creation are there as it made them. */
export interface Inspection {
  /** `missing`: not there, or there twice. `different`: not as it was made, or made elsewhere. */
  readonly found: 'whole' | 'missing' | 'different';
  readonly publicAttributes: PublicAttributes | null;
}

export interface CreatedObject {
  readonly handles: readonly { readonly part: Part; readonly handle: ObjectHandle }[];
  readonly publicAttributes: PublicAttributes | null;
}

/** What C_CreateObject needs to make a public object. */
export type PublicHalf =
  | { readonly type: 'rsa'; readonly modulus: Uint8Array; readonly exponent: Uint8Array }
  /** `point`: uncompressed, 04‖x‖y. */
  | { readonly type: 'ec'; readonly curve: Curve; readonly point: Uint8Array };

/** A key on its way into the token (pkcs11-lab §3.1): never in the clear once it has left `crypto`. */
export interface WrappedKey {
  /** 32-byte key-encryption key under the token's import key, RSA-OAEP. */
  readonly kek: Uint8Array;
  /** The key under the key-encryption key, RFC 5649: raw bytes, or PKCS#8 DER of a private key. */
  readonly blob: Uint8Array;
  readonly type: 'aes' | 'secret' | 'rsa' | 'ec';
  readonly purpose: Purpose;
  /** Public half of a private key; its object is made beside it. */
  readonly half: PublicHalf | null;
}

/** One operation on a test key. */
export type TrialStep =
  /** As the job of this name; the result is the IV and what was sealed, in one. */
  | { readonly op: 'encryptGcm'; readonly aad: Uint8Array; readonly data: Uint8Array }
  | { readonly op: 'encrypt'; readonly mechanism: Mechanism; readonly data: Uint8Array }
  | { readonly op: 'decrypt'; readonly mechanism: Mechanism; readonly data: Uint8Array }
  | { readonly op: 'sign'; readonly mechanism: Mechanism; readonly data: Uint8Array; readonly length: number }
  | { readonly op: 'verify'; readonly mechanism: Mechanism; readonly data: Uint8Array; readonly signature: Uint8Array }
  | { readonly op: 'wrapBytes'; readonly mechanism: Mechanism; readonly data: Uint8Array }
  | { readonly op: 'unwrapBytes'; readonly mechanism: Mechanism; readonly data: Uint8Array };

/** A job, and the CKA_ID its key must have. */
export interface AddressedJob {
  readonly job: Job;
  /** Null for jobs without a key. */
  readonly objectId: string | null;
}

export type Job =
  /** `room`: bytes of the longest result. */
  | {
      readonly op: 'encrypt';
      readonly key: ObjectHandle;
      readonly mechanism: Mechanism;
      readonly data: Uint8Array;
      readonly room: number;
    }
  /** The IV is drawn from the token's generator in the same turn (SP 800-38D §8.2.2), or made by the token. */
  | { readonly op: 'encryptGcm'; readonly key: ObjectHandle; readonly aad: Uint8Array; readonly data: Uint8Array }
  | { readonly op: 'decrypt'; readonly key: ObjectHandle; readonly mechanism: Mechanism; readonly data: Uint8Array }
  | {
      readonly op: 'sign';
      readonly key: ObjectHandle;
      readonly mechanism: Mechanism;
      readonly data: Uint8Array;
      /** Exact length of the signature, in bytes. */
      readonly length: number;
    }
  | { readonly op: 'random'; readonly length: number }
  /** A caller's bytes under a wrapping key (RFC 3394, RFC 5649). */
  | { readonly op: 'wrapBytes'; readonly key: ObjectHandle; readonly mechanism: Mechanism; readonly data: Uint8Array }
  | { readonly op: 'unwrapBytes'; readonly key: ObjectHandle; readonly mechanism: Mechanism; readonly data: Uint8Array }
  /** Unwraps into a session object that nobody can read or use, and destroys it: does this key open this blob? */
  | { readonly op: 'unwrapThrowAway'; readonly key: ObjectHandle; readonly mechanism: Mechanism; readonly data: Uint8Array }
  /** `label` ends in the family; the public half of a pair gets the same label ending in `public`. */
  | { readonly op: 'create'; readonly objectId: string; readonly label: string; readonly generation: Generation }
  /** `key` is the RSA pair that unwraps imports. Nothing is left when it fails. */
  | {
      readonly op: 'import';
      readonly key: ObjectHandle;
      readonly objectId: string;
      readonly label: string;
      readonly wrapped: WrappedKey;
    }
  /** A public object without a private half. */
  | { readonly op: 'importPublic'; readonly objectId: string; readonly label: string; readonly purpose: Purpose; readonly half: PublicHalf }
  /** What a public object holds. */
  | { readonly op: 'publicAttributes'; readonly key: ObjectHandle; readonly type: PublicAttributes['type'] }
  /** Imports a test key as a session object, runs operations on it, and destroys it. */
  | { readonly op: 'trial'; readonly key: ObjectHandle; readonly wrapped: WrappedKey; readonly steps: readonly TrialStep[] }
  | {
      readonly op: 'verify';
      readonly key: ObjectHandle;
      readonly mechanism: Mechanism;
      readonly data: Uint8Array;
      readonly signature: Uint8Array;
    }
  /** Destroys every object of ours with one of these ids and proves them gone. */
  | { readonly op: 'destroy'; readonly objectIds: readonly string[]; readonly labelPrefix: string }
  /** All token objects whose handle is not in `known`, with the handles that are still there. */
  | { readonly op: 'list'; readonly known: ReadonlySet<ObjectHandle> }
  /** Compares what is there with what a creation of these arguments makes. */
  | { readonly op: 'inspect'; readonly objectId: string; readonly label: string; readonly generation: Generation }
  /** All key objects, with labels. */
  | { readonly op: 'survey' }
  /** All data objects of one application. */
  | { readonly op: 'readData'; readonly application: string }
  /** Makes a data object, and then destroys those of `obsolete` that are still what they were. */
  | {
      readonly op: 'replaceData';
      readonly application: string;
      readonly label: string;
      readonly value: Uint8Array;
      readonly obsolete: readonly DataObject[];
    };

export interface Results {
  readonly encrypt: Uint8Array;
  readonly encryptGcm: { readonly iv: Uint8Array; readonly sealed: Uint8Array };
  readonly decrypt: Uint8Array;
  readonly sign: Uint8Array;
  readonly verify: boolean;
  readonly random: Uint8Array;
  readonly wrapBytes: Uint8Array;
  readonly unwrapBytes: Uint8Array;
  readonly import: CreatedObject;
  readonly importPublic: CreatedObject;
  readonly publicAttributes: PublicAttributes;
  readonly trial: readonly TrialResult[];
  readonly unwrapThrowAway: null;
  readonly create: CreatedObject;
  readonly destroy: null;
  readonly list: { readonly added: readonly ListedObject[]; readonly present: ReadonlySet<ObjectHandle> };
  readonly survey: readonly SurveyedObject[];
  readonly inspect: Inspection;
  readonly readData: readonly DataObject[];
  readonly replaceData: null;
}

/** A failed step does not stop the others. */
export type TrialResult = { readonly ok: Uint8Array | boolean } | { readonly code: number; readonly call: string };

/** The object behind a handle is another one now: no result of this batch can be trusted. */
export const HANDLES_MOVED = 'handles moved';

export type Reply = { readonly ok: Results[Job['op']] } | { readonly code: number; readonly call: string };

/** What a thread needs to know when it starts. */
export interface ThreadSetup {
  readonly profile: Profile;
  readonly tokenLabel: string;
  /** Null before the installation is made. */
  readonly tokenSerial: string | null;
  /** File holding the user PIN; read by the thread, never sent. */
  readonly pinFile: string;
  /** The first thread initialises the module and logs in; the others find that done. */
  readonly first: boolean;
  /** Null only while the installation is made. */
  readonly canary: Canary | null;
  /** Where the first thread found it. The others do not search: creations may run by then (dispatcher.ts). */
  readonly canaryHandle: ObjectHandle | null;
  /** Present only in `kms init`: makes the token in a free slot when no token has the label. */
  readonly provision: { readonly soPinFile: string } | null;
  readonly latchFile: string;
}

/** What all threads of a process have in common. */
export type TokenSetup = Omit<ThreadSetup, 'first' | 'canaryHandle'>;

/** The canary signs these bytes with HMAC-SHA-256; the answer was recorded when the installation was made. */
export const CANARY_QUESTION = Buffer.from('kms-canary', 'utf8');

/** The known answer that tells our token from any other. */
export interface Canary {
  readonly objectId: string;
  readonly mac: Uint8Array;
}

export type ToThread =
  /** No further job is begun after so many milliseconds. */
  | { readonly kind: 'batch'; readonly jobs: readonly AddressedJob[]; readonly budgetMs: number }
  /** The one login of the process may be tried now. */
  | { readonly kind: 'may-login' }
  | { readonly kind: 'stop' };

export type FromThread =
  /** The right token is there; waits for `may-login`. */
  | { readonly kind: 'asks-login' }
  | { readonly kind: 'ready'; readonly serial: string; readonly canaryHandle: ObjectHandle | null }
  /** Not started; the first thread tries again by itself, except after a PIN error. */
  | { readonly kind: 'waiting'; readonly reason: StartFailure; readonly code: number; readonly detail: string }
  /** Of the jobs that were begun, in their order. */
  | { readonly kind: 'batch'; readonly replies: readonly Reply[] }
  | { readonly kind: 'canary'; readonly ok: boolean }
  | { readonly kind: 'stopped' };

export type StartFailure = 'unavailable' | 'token-absent' | 'wrong-token' | 'pin' | 'pin-latched' | 'pin-file';
