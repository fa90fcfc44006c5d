/**
 * Request → principal, by client certificate or access token. The certificate is parsed once per connection; its validity
 * and the credential behind it are looked at on every request, as resumed and long-lived connections outlive both. Of
 * both together the token says who it is, and the certificate for which vault; neither may be invalid.
 */

import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { readAccessToken, type TokenIssuer } from '../auth/access-token.ts';
import type { Principal } from '../auth/principal.ts';
import { type Authority, type CertificateFacts, readCertificate } from '../auth/client-certificate.ts';
import { KmsError } from '../errors.ts';
import type { Gate } from '../keys/access.ts';

type Presented = CertificateFacts | 'none' | 'invalid';

export class ClientIdentity {
  readonly #gate: Gate;
  readonly #authorities: readonly Authority[];
  readonly #issuer: TokenIssuer | null;
  readonly #now: () => number;
  readonly #connections = new WeakMap<TLSSocket, Presented>();

  /** @param issuer of access tokens; null where there is none */
  constructor(gate: Gate, authorities: readonly Authority[], issuer: TokenIssuer | null, now: () => number) {
    this.#gate = gate;
    this.#authorities = authorities;
    this.#issuer = issuer;
    this.#now = now;
  }

  /** @throws KmsError `unauthenticated` */
  async principal({ socket, headers }: IncomingMessage): Promise<Principal> {
    const presented = socket instanceof TLSSocket ? this.#presented(socket) : 'none';
    const { authorization } = headers;
    if (authorization === undefined) {
      if (presented === 'none') throw refused('a client certificate is required, or an access token');
      return this.#ofCertificate(presented);
    }
    const vaultId = presented === 'none' ? null : (await this.#ofCertificate(presented)).vaultId;
    return this.#ofToken(authorization, vaultId);
  }

  async #ofToken(authorization: string, vaultId: string | null): Promise<Principal> {
    const [, text] = /^Bearer ([\w.-]+)$/i.exec(authorization) ?? [];
    const facts = text === undefined || this.#issuer === null ? undefined : await readAccessToken(text, this.#issuer, this.#now());
    if (facts === undefined) throw refused('the access token does not hold');
    const { issuer, subject, id } = facts;
    return { method: 'token', issuer, subject, memberships: [], vaultId, credential: id };
  }

  #ofCertificate(presented: CertificateFacts | 'invalid'): Promise<Principal> {
    if (presented === 'invalid') throw refused('the client certificate was not issued by the access CA of this KMS');
    const now = this.#now();
    if (now < presented.notBeforeMs) throw refused('the client certificate is not valid yet');
    if (now >= presented.notAfterMs) throw refused('the client certificate has expired');
    return this.#gate.entrance.identify(presented);
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
    return readCertificate(certificate.raw, this.#authorities) ?? 'invalid';
  }
}

function refused(message: string): KmsError {
  return new KmsError('unauthenticated', message);
}
