/**
 * Who comes, and to which vault: proofs of identity → principals, paths and hosts → vaults. What the principal may do there
 * is decided by the gate.
 */

import { credentialName, issuerOf, type Principal } from '../auth/principal.ts';
import { KmsError } from '../errors.ts';
import type { KeyStore } from '../store/store.ts';
import { type ChangeWatch, FreshCache } from './cache.ts';
import type { Credential, Installation, TokenClient, Vault } from './key.ts';
import { holdsSecret } from './token-client.ts';

export interface EntranceOptions {
  readonly store: Pick<KeyStore, 'vaults' | 'credential' | 'tokenClient'>;
  /** @throws KmsError while the store must not be believed */
  readonly assertServing: () => void;
  readonly installation: Installation;
  readonly now: () => number;
}

/** Proof of identity read from an access certificate; see auth/client-certificate.ts. */
export interface PresentedCertificate {
  readonly issuerKeyHash: string;
  readonly serial: string;
  readonly okmsDomain: string | null;
}

/** Of clients; whatever else is asked for is not worth a question to the store. */
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const CREDENTIALS_CACHED = 1_000;

export class Entrance {
  readonly #options: EntranceOptions;
  readonly #vaults: FreshCache<readonly Vault[]>;
  readonly #credentials: FreshCache<Credential | undefined>;

  constructor(options: EntranceOptions, watch: ChangeWatch) {
    this.#options = options;
    this.#vaults = new FreshCache(watch, 1);
    this.#credentials = new FreshCache(watch, CREDENTIALS_CACHED);
  }

  /** @throws KmsError `unauthenticated` for a certificate we do not know, or that was revoked or belongs elsewhere */
  async identify({ issuerKeyHash, serial, okmsDomain }: PresentedCertificate): Promise<Principal> {
    this.#options.assertServing();
    const credential = await this.#credentials.get(`${issuerKeyHash} ${serial}`, () =>
      this.#options.store.credential(issuerKeyHash, serial));
    if (credential === undefined) throw unauthenticated('unknown or revoked', 'certificate-unknown');
    if (credential.revokedMs !== null) throw unauthenticated('unknown or revoked', 'certificate-revoked');
    if (this.#options.now() >= credential.notAfterMs) throw unauthenticated('expired', 'certificate-expired');
    if (okmsDomain !== credential.vaultId) throw unauthenticated('of another OKMS domain', 'certificate-domain');
    const { vaultId, subject, identities } = credential;
    const issuer = issuerOf(this.#options.installation.id);
    const memberships = identities.map((identity) => ({ method: 'identity', issuer, subject: identity }) as const);
    return { method: 'certificate', issuer, subject, memberships, vaultId, credential: credentialName(issuerKeyHash, serial) };
  }

  /** @throws KmsError `unauthenticated`, the same for a client that is not there or revoked, and for a wrong secret */
  async identifyClient(id: string, secret: string): Promise<TokenClient> {
    this.#options.assertServing();
    const client = UUID.test(id) ? await this.#options.store.tokenClient(id) : undefined;
    if (holdsSecret(client, secret)) return client;
    throw new KmsError('unauthenticated', 'the client is unknown or revoked, or its secret is wrong', { rule: 'client-secret' });
  }

  /**
   * The vault a request is for.
   * @param vaultId of the path; null where the route names none, then it is the credential's
   * @throws KmsError `unauthenticated` when neither names one; `forbidden`, the same for a foreign vault and one that does not exist
   */
  async enter(principal: Principal, vaultId: string | null): Promise<Vault> {
    this.#options.assertServing();
    const wanted = vaultId ?? principal.vaultId;
    if (wanted === null) throw new KmsError('unauthenticated', 'this path names no vault: a client certificate is required', { rule: 'no-vault' });
    const vaults = await this.#vaults.get('', () => this.#options.store.vaults());
    const vault = vaults.find(({ id }) => id === wanted);
    if (vault === undefined || (principal.vaultId !== null && principal.vaultId !== vault.id)) {
      throw new KmsError('forbidden', 'the credential does not belong to this OKMS domain', { rule: 'vault-of-credential' });
    }
    return vault;
  }

  /**
   * The vault of a host: the one whose name its first label is, else the first.
   * @throws KmsError `forbidden` for a certificate of another vault
   */
  async enterHost({ vaultId }: Pick<Principal, 'vaultId'>, hostname: string): Promise<Vault> {
    const vault = await this.vaultOfHost(hostname);
    if (vaultId !== null && vaultId !== vault.id) throw new KmsError('forbidden', 'the certificate does not belong to this vault', { rule: 'vault-of-credential' });
    return vault;
  }

  /** Of a vault that the configuration names. @throws KmsError `unauthenticated` when there is none */
  async idOfVault(name: string): Promise<string> {
    this.#options.assertServing();
    const vaults = await this.#vaults.get('', () => this.#options.store.vaults());
    const vault = vaults.find((candidate) => candidate.name === name);
    if (vault === undefined) throw unauthenticated('for a vault that does not exist', 'vault-unknown');
    return vault.id;
  }

  /** @throws KmsError `store-unavailable` */
  async vaultOfHost(hostname: string): Promise<Vault> {
    this.#options.assertServing();
    const vaults = await this.#vaults.get('', () => this.#options.store.vaults());
    const [label] = hostname.toLowerCase().split('.');
    const vault = vaults.find(({ name }) => name === label) ?? vaults[0];
    if (vault === undefined) throw new KmsError('internal', 'the installation has no vault');
    return vault;
  }
}

function unauthenticated(why: string, rule: string): KmsError {
  return new KmsError('unauthenticated', `the client certificate is ${why}`, { rule });
}
