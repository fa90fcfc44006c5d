/**
 * The domain's nouns: vault, key, key version, token object, credential, assignment. Types only, importable from
 * anywhere; what may be done with them stands in `state.ts`, `usage.ts` and `access.ts`.
 *
 * Times are milliseconds since the epoch. Identifiers are lower-case text. No type here can hold key material.
 */

export type Kind = 'oct' | 'RSA' | 'EC';

/** `P-256K` is secp256k1 (RFC 8812 §3.1 names it so). */
export type Curve = 'P-256' | 'P-384' | 'P-521' | 'P-256K';

/** Permitted operations of a key, as RFC 7517 §4.3 spells them. */
export type Usage = 'sign' | 'verify' | 'encrypt' | 'decrypt' | 'wrapKey' | 'unwrapKey';

/**
 * Which token object of a key version serves which mechanisms (design §4). `public` is half of a pair, `public-only` stands
 * for itself: nothing in the token can answer for it.
 */
export type Family = 'gcm' | 'dk' | 'cbc' | 'kw' | 'mac' | 'private' | 'public' | 'public-only';

/** Written only by state calls of the OKMS door and by the operator (design §3). */
export type KeyState = 'active' | 'deactivated' | 'compromised' | 'destroyed' | 'destroyed_compromised';

export type RevocationReason =
  | 'unspecified'
  | 'key_compromise'
  | 'ca_compromise'
  | 'affiliation_changed'
  | 'superseded'
  | 'cessation_of_operation'
  | 'privilege_withdrawn';

/** Where the material came from; reports show it for ever. */
export type Origin = 'generated' | 'imported-clear' | 'imported-wrapped' | 'imported-public';

/** One list of permissions for all doors; `usage.ts` gives the spelling of each door. */
export type Permission =
  | 'key/create'
  | 'key/rotate'
  | 'key/import'
  | 'key/get'
  | 'key/list'
  | 'key/update'
  | 'key/delete'
  | 'key/activate'
  | 'key/deactivate'
  | 'key/encrypt'
  | 'key/decrypt'
  | 'key/dataKey/create'
  | 'key/dataKey/decrypt'
  | 'key/sign'
  | 'key/verify'
  | 'key/wrapKey'
  | 'key/unwrapKey'
  | 'key/recover'
  | 'key/purge'
  | 'key/deleted/get'
  | 'key/deleted/list'
  | 'key/backup'
  | 'key/restore'
  | 'key/release'
  | 'key/rotationPolicy/get'
  | 'key/rotationPolicy/update'
  | 'random/get'
  | 'role/assignment/get'
  | 'role/assignment/create'
  | 'role/assignment/delete'
  | 'role/definition/get'
  | 'role/definition/update'
  | 'role/definition/delete';

export interface Vault {
  /** UUID; the `okmsId` of the OKMS door. */
  readonly id: string;
  /** DNS label; the host label of the Key Vault door. Unique. */
  readonly name: string;
  readonly flavour: 'premium' | 'managed-hsm';
  /** 7 to 90. */
  readonly softDeleteDays: number;
  readonly purgeProtection: boolean;
  readonly backup: 'allowed' | 'never';
  readonly cbc: boolean;
  readonly rsa15: boolean;
  readonly rsnull: boolean;
  readonly compromiseRule: 'reversible' | 'final';
  readonly profile: 'standard' | 'fips';
  /** Keys that may live in it, those deleted softly included; null for any number. */
  readonly keyQuota: number | null;
  readonly createdMs: number;
  readonly revision: number;
}

/** One object on the token. Its CKA_ID was chosen and recorded before the token was touched. */
export interface KeyObject {
  readonly family: Family;
  /** CKA_ID, 16 bytes as 32 hex characters. */
  readonly objectId: string;
  /** What the object answered when it was made; checked at first use after each start (design §4). */
  readonly proof: Uint8Array;
}

/** At most 15; names and values of at most 256 characters. */
export type Tags = readonly (readonly [name: string, value: string])[];

export interface KeyVersion {
  /** 32 hex characters. */
  readonly id: string;
  /** From 0, without gaps; `x-key-ver` of the OKMS door. */
  readonly ordinal: number;
  /** Written only by the Key Vault door, as `nbf` and `exp` are. */
  readonly enabled: boolean;
  readonly nbfMs: number | null;
  readonly expMs: number | null;
  readonly createdMs: number;
  readonly updatedMs: number;
  /** Written only by the Key Vault door; never more than `madeFor`. */
  readonly usages: readonly Usage[];
  /** What its objects were made for. */
  readonly madeFor: readonly Usage[];
  /** Names are unique; empty for none. */
  readonly tags: Tags;
  /** SubjectPublicKeyInfo, DER (RFC 5280 §4.1.2.7); null for `oct`. */
  readonly publicKey: Uint8Array | null;
  readonly objects: readonly KeyObject[];
  readonly revision: number;
}

export interface Key {
  readonly vaultId: string;
  /** UUID, unique in the vault for ever. */
  readonly id: string;
  /** Key Vault name, unique in the vault without regard to case while the key lives. */
  readonly name: string;
  /** The OKMS name: free text, not unique. */
  readonly label: string;
  /** The OKMS context given at creation; never returned, never changed. */
  readonly context: string | null;
  readonly kind: Kind;
  /** Key size of `oct` or modulus length of `RSA`, in bits; null for `EC`. */
  readonly bits: number | null;
  readonly curve: Curve | null;
  /** Of the newest version; of a tombstone, of the first. */
  readonly usages: readonly Usage[];
  readonly origin: Origin;
  /** Whether its creator named an HSM in the type of the key; every key is in one. */
  readonly namedHsm: boolean;
  /** Whether the material may be backed up; fixed at creation (design §5). */
  readonly backupClass: 'never' | 'born-wrapped';
  readonly state: KeyState;
  readonly createdMs: number;
  readonly activatedMs: number | null;
  readonly deactivatedMs: number | null;
  readonly deactivationReason: RevocationReason | null;
  readonly compromisedMs: number | null;
  readonly destroyedMs: number | null;
  /** Deleted softly: since when, and until when it can be recovered. Null for what lives and for what is destroyed. */
  readonly deletion: Deletion | null;
  /** Position in the vault, in order of creation; carries paging. */
  readonly ordinal: number;
  readonly revision: number;
  /** Ascending ordinal; the last is the newest. Empty for a tombstone. */
  readonly versions: readonly KeyVersion[];
}

export interface Deletion {
  readonly atMs: number;
  readonly scheduledPurgeMs: number;
}

/** A program that gets access tokens by a secret. */
export interface TokenClient {
  /** UUID. */
  readonly id: string;
  readonly subject: string;
  /** SHA-256 of the secret. */
  readonly secretHash: Uint8Array;
  readonly createdMs: number;
  readonly revokedMs: number | null;
  readonly revision: number;
}

/** An access certificate as the server knows it; found by issuer key and serial (design §9). */
export interface Credential {
  /** SHA-256 of the issuer's SubjectPublicKeyInfo, hex. */
  readonly issuerKeyHash: string;
  /** Serial number, lower-case hex without leading zeros. */
  readonly serial: string;
  readonly vaultId: string;
  readonly subject: string;
  /** At most 25 names it also speaks for, as the identity URNs of OKMS (okms-rest-api §4.1). */
  readonly identities: readonly string[];
  readonly notAfterMs: number;
  readonly createdMs: number;
  readonly revokedMs: number | null;
  readonly revision: number;
}

/**
 * What a role can be given to. `certificate` and `token`: a caller by how it proves who it is; `identity`: whatever a
 * certificate also speaks for; `group`, `app-role`: values of claims of access tokens.
 */
export type HolderMethod = 'certificate' | 'identity' | 'token' | 'group' | 'app-role';

/** Never a bare name: who vouches for it is part of it. */
export interface Holder {
  readonly method: HolderMethod;
  readonly issuer: string;
  readonly subject: string;
}

/** A role for a principal on a scope. Without one there are no rights. */
export interface Assignment extends Holder {
  readonly id: string;
  /** Slug of a built-in role, id of a custom one, or `access-policy`. */
  readonly role: string;
  /** Of an access policy, which names them itself; null for a role. */
  readonly permissions: readonly Permission[] | null;
  /** null: every vault. */
  readonly vaultId: string | null;
  /** null: every key of the scope. */
  readonly keyId: string | null;
  readonly createdMs: number;
  readonly revision: number;
}

/** A role of the operator's own. */
export interface CustomRole {
  /** UUID. */
  readonly id: string;
  /** Unique without regard to case among those of its vault, or of every vault, and none of a built-in one. */
  readonly name: string;
  readonly description: string;
  readonly permissions: readonly Permission[];
  /** Of the managed HSM that defined it, where alone it counts; null for one of every vault. */
  readonly vaultId: string | null;
  readonly createdMs: number;
  readonly revision: number;
}

/** A key the service itself needs; lives in its own label space and has no row among the keys (design §4). */
export type InternalKeyName = 'canary' | 'integrity' | 'audit' | 'import' | 'access-ca' | 'server-ca' | 'token-issuer';

export interface InternalKey {
  readonly name: InternalKeyName;
  /** CKA_ID, 32 hex characters. */
  readonly objectId: string;
  readonly proof: Uint8Array;
  /** SubjectPublicKeyInfo, DER; null for secret keys. */
  readonly publicKey: Uint8Array | null;
}

/** Set once by `kms init`. */
export interface Installation {
  readonly id: string;
  readonly kind: 'dev' | 'prod';
  readonly tokenLabel: string;
  readonly tokenSerial: string;
  readonly createdMs: number;
  readonly revision: number;
  readonly internalKeys: readonly InternalKey[];
  /** Certificate of the access CA, PEM. */
  readonly accessCa: string;
  /** Certificate of the CA that signs the hosts' server certificates, PEM. */
  readonly serverCa: string;
}
