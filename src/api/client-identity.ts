/**
 * Request → principal, by client certificate or access token. The certificate is parsed once per connection; its validity
 * and whether it was revoked are looked at on every request, as resumed and long-lived connections outlive both. Of both
 * together the token says who it is, and the certificate for which vault; neither may be invalid.
 */

import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { readAccessToken, type TokenIssuer } from '../auth/access-token.ts';
import { credentialName, type Principal } from '../auth/principal.ts';
import { type Authority, type CertificateFacts, readCertificate } from '../auth/client-certificate.ts';
import type { ExternalAuthority } from '../auth/external-authority.ts';
import { KmsError } from '../errors.ts';
import type { Gate } from '../keys/access.ts';

/** Of a CA of the operator's own: with the name that it is mapped to, null where it has none. */
type Known = CertificateFacts & { readonly mapped: { readonly by: ExternalAuthority; readonly subject: string | null } | null };
type Presented = Known | 'none' | 'invalid';

export interface IdentitySources {
  /** Our access CA. */
  readonly accessCa: Authority;
  /** CAs of the operator's own. */
  readonly authorities: readonly ExternalAuthority[];
  /** Of access tokens. */
  readonly issuers: readonly TokenIssuer[];
}

export class ClientIdentity {
  readonly #gate: Gate;
  readonly #sources: IdentitySources;
  readonly #now: () => number;
  readonly #connections = new WeakMap<TLSSocket, Presented>();

  constructor(gate: Gate, sources: IdentitySources, now: () => number) {
    this.#gate = gate;
    this.#sources = sources;
    this.#now = now;
  }

  /** @throws KmsError `unauthenticated`, `issuer-unavailable` */
  async principal({ socket, headers }: IncomingMessage): Promise<Principal> {
    const presented = socket instanceof TLSSocket ? this.#presented(socket) : 'none';
    const { authorization } = headers;
    if (authorization === undefined) {
      if (presented === 'none') throw refused('a client certificate is required, or an access token', 'no-credential');
      return this.#ofCertificate(presented);
    }
    const vaultId = presented === 'none' ? null : (await this.#ofCertificate(presented)).vaultId;
    return this.#ofToken(authorization, vaultId);
  }

  async #ofToken(authorization: string, vaultId: string | null): Promise<Principal> {
    const [, text] = /^Bearer ([\w.-]+)$/i.exec(authorization) ?? [];
    if (text === undefined) throw refused('the access token does not hold', 'authorization-header');
    const { issuer, subject, memberships, id } = await readAccessToken(text, this.#sources.issuers, this.#now());
    return { method: 'token', issuer, subject, memberships, vaultId, credential: id };
  }

  async #ofCertificate(presented: Known | 'invalid'): Promise<Principal> {
    if (presented === 'invalid') {
      throw refused('the client certificate was not issued by a CA that this KMS accepts', 'certificate-issuer');
    }
    const now = this.#now();
    if (now < presented.notBeforeMs) throw refused('the client certificate is not valid yet', 'certificate-not-yet-valid');
    if (now >= presented.notAfterMs) throw refused('the client certificate has expired', 'certificate-expired');
    return presented.mapped === null ? this.#gate.entrance.identify(presented) : this.#ofExternal(presented.mapped, presented);
  }

  async #ofExternal({ by, subject }: NonNullable<Known['mapped']>, { issuerKeyHash, serial }: CertificateFacts): Promise<Principal> {
    await by.assertNotRevoked(serial, this.#now());
    if (subject === null) throw refused('the client certificate is not acceptable', 'certificate-subject');
    const vaultId = by.vault === null ? null : await this.#gate.entrance.idOfVault(by.vault);
    return { method: 'certificate', issuer: by.issuer, subject, memberships: [], vaultId, credential: credentialName(issuerKeyHash, serial) };
  }

  #presented(socket: TLSSocket): Presented {
    const known = this.#connections.get(socket);
    if (known !== undefined) return known;
    const presented = this.#read(socket);
    this.#connections.set(socket, presented);
    return presented;
  }

  /** A copied subject arrives readable but not authorised, so only TLS's own verdict counts. */
  #read(socket: TLSSocket): Presented {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return 'none';
    if (!socket.authorized) return 'invalid';
    const { accessCa, authorities } = this.#sources;
    const facts = readCertificate(certificate.raw, [accessCa, ...authorities]);
    if (facts === undefined) return 'invalid';
    const by = authorities.find(({ keyHash }) => keyHash === facts.issuerKeyHash);
    return { ...facts, mapped: by === undefined ? null : { by, subject: by.subjectOf(certificate.raw) } };
  }
}

function refused(message: string, rule: string): KmsError {
  return new KmsError('unauthenticated', message, { rule });
}
