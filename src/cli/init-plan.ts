/** What `kms init` makes: one plan for development, which knows everything, and one for production, which is told. */

import { ACCESS_DAYS_MAX } from '../auth/issue-certificate.ts';
import type { Installation, InternalKeyName } from '../keys/key.ts';
import type { VaultSpec } from '../keys/vaults.ts';

export interface Plan {
  readonly kind: Installation['kind'];
  /** Of kms.yaml, beside the host's id. */
  readonly settings: Settings;
  readonly token: TokenPlan;
  /** The first is the default vault, and the administrator's. */
  readonly vaults: readonly [VaultSpec, ...VaultSpec[]];
  /** Further names and addresses of this host, for its server certificate. */
  readonly names: readonly string[];
  readonly serverCa: string;
  readonly administrator: Administrator;
}

interface Settings {
  readonly hsm: Readonly<Record<string, unknown>> & { readonly profile: string };
  readonly [section: string]: unknown;
}

export interface TokenPlan {
  /** Null for one made of the installation's id. */
  readonly label: string | null;
  /** Absolute path, for a token that is to be made; null for one that is there. */
  readonly soPinFile: string | null;
  /** PINs are made, in the home. */
  readonly makesPins: boolean;
  /** Of SoftHSM: directory of its tokens, absolute; null for the home's own. Undefined for other modules. */
  readonly directory?: string | null;
}

export interface Administrator {
  readonly subject: string;
  /** SubjectPublicKeyInfo, DER, of somebody who has the key; null for a key that is made here. */
  readonly publicKey: Uint8Array | null;
  readonly days: number;
  /** Null for no PKCS#12. */
  readonly p12Password: string | null;
}

const COMMON_KEYS: readonly InternalKeyName[] = ['canary', 'integrity', 'audit', 'import', 'access-ca', 'server-ca'];

/** Production has no issuer of tokens of its own, and no key for one. */
export function internalKeysOf({ kind }: Pick<Plan, 'kind'>): readonly InternalKeyName[] {
  return kind === 'dev' ? [...COMMON_KEYS, 'token-issuer'] : COMMON_KEYS;
}

/** So that a person can import the file into a browser; the operating contract names it. */
const DEV_P12_PASSWORD = 'changeit';

/** @param soPinFile absolute path @param storeUrl PostgreSQL; empty for SQLite in the home */
export function devPlan(soPinFile: string, storeUrl: string): Plan {
  const common = {
    softDeleteDays: 90, purgeProtection: false, compromiseRule: 'reversible', profile: 'standard', keyQuota: null,
  } as const;
  const on = { cbc: true, rsa15: true, rsnull: true };
  const off = { cbc: false, rsa15: false, rsnull: false };
  return {
    kind: 'dev',
    settings: { hsm: { profile: 'softhsm-2.6.1' }, ...(storeUrl === '' ? {} : { store: { url: storeUrl } }) },
    token: { label: null, soPinFile, makesPins: true, directory: null },
    // Of the operating contract (design §10).
    vaults: [
      { name: 'dev', flavour: 'managed-hsm', backup: 'allowed', ...on, ...common },
      { name: 'dev-premium', flavour: 'premium', backup: 'never', ...off, ...common },
    ],
    names: [],
    serverCa: 'KMS development server CA',
    administrator: { subject: 'admin', publicKey: null, days: ACCESS_DAYS_MAX, p12Password: DEV_P12_PASSWORD },
  };
}
