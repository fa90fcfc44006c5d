/** How a key comes to be: what is said of it, what its vault allows, and the row it becomes. Pure. */

import type { ClearMaterial, KeyShape } from '../crypto/engine.ts';
import { KmsError } from '../errors.ts';
import type { NewKey } from '../store/store.ts';
import type { AuditFacts, Call } from './access.ts';
import type { Key, KeyVersion, Tags, Usage, Vault } from './key.ts';
import { makingDetail } from './making.ts';
import { idsOf } from './material.ts';

/** What the creator of a key says of it, besides its shape. */
export interface KeyNames {
  /** UUID chosen by the caller, or null. */
  readonly id: string | null;
  /** Unique in the vault; null: the id. */
  readonly name: string | null;
  readonly namedHsm: boolean;
  readonly label: string;
  readonly context: string | null;
}

/** What the creator of a version says of it. */
export interface VersionSpec {
  readonly enabled: boolean;
  readonly nbfMs: number | null;
  readonly expMs: number | null;
  readonly tags: Tags;
}

export const PLAIN_VERSION: VersionSpec = { enabled: true, nbfMs: null, expMs: null, tags: [] };

/** A key to be made; checked by the door, complete. */
export interface KeySpec extends KeyShape, KeyNames, VersionSpec {}

/** A key of elsewhere, complete and consistent. */
export interface Imported {
  readonly clear: ClearMaterial;
  readonly usages: readonly Usage[];
}

/** A key to be imported; it is read when the caller has proved to be allowed. */
export interface ImportSpec extends KeyNames, VersionSpec {
  /** Said beside the key, or null; must agree with it. */
  readonly bits: number | null;
  /** Whether it is, or may be, a key that nobody may know. */
  readonly secret: boolean;
  /** @throws KmsError `invalid-field` naming the member; `decryption-failed` for one that came wrapped */
  readonly open: (call: Call) => Promise<Imported>;
}

const SIGNING: ReadonlySet<Usage> = new Set(['sign', 'verify']);

/**
 * Of the profile `fips`: an RSA key either signs or opens (SP 800-57 part 1 §5.2), and no secret that was in the clear
 * outside the token comes in.
 * @throws KmsError `forbidden`
 */
export function assertAllowed({ profile }: Vault, { kind, usages }: Pick<KeyShape, 'kind' | 'usages'>): void {
  if (profile !== 'fips' || kind !== 'RSA') return;
  const signing = usages.filter((usage) => SIGNING.has(usage)).length;
  if (signing > 0 && signing < usages.length) throw new KmsError('forbidden', 'in this vault an RSA key signs, or it wraps, but not both');
}

/** @throws KmsError `forbidden` */
export function assertMayEnter({ profile }: Vault, { secret }: Pick<ImportSpec, 'secret'>): void {
  if (profile === 'fips' && secret) throw new KmsError('forbidden', 'this vault takes no key that was in the clear outside the HSM');
}

export function versionFacts(key: Key, version: KeyVersion | undefined): AuditFacts {
  const bits = key.bits === null ? {} : { bits: key.bits };
  const facts = { algorithm: key.curve ?? key.kind, ...bits };
  if (version === undefined) return facts;
  return { ...facts, version: version.ordinal, objectIds: idsOf(version.objects), detail: makingDetail(key, version) };
}

export function originOf(clear: ClearMaterial | undefined): Key['origin'] {
  if (clear === undefined) return 'generated';
  return clear.material === null ? 'imported-public' : 'imported-clear';
}

type Birth = { readonly keyId: string; readonly origin: Key['origin']; readonly nowMs: number };

export function newKey(call: Call, spec: KeySpec, { keyId, origin, nowMs }: Birth): NewKey {
  return {
    vaultId: call.vault.id,
    id: keyId,
    name: spec.name ?? keyId,
    namedHsm: spec.namedHsm,
    label: spec.label,
    context: spec.context,
    kind: spec.kind,
    bits: spec.bits,
    curve: spec.curve,
    usages: spec.usages,
    origin,
    backupClass: 'never',
    state: 'active',
    createdMs: nowMs,
    activatedMs: nowMs,
    deactivatedMs: null,
    deactivationReason: null,
    compromisedMs: null,
    destroyedMs: null,
    deletion: null,
  };
}
