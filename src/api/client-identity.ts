/**
 * TLS connection → principal. The certificate is parsed once per connection; its validity and the credential behind
 * it are looked at on every request, as resumed and long-lived connections outlive both.
 */

import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { Principal } from '../auth/principal.ts';
import { type Authority, type CertificateFacts, readCertificate } from '../auth/client-certificate.ts';
import { KmsError } from '../errors.ts';
import type { Gate } from '../keys/access.ts';

type Presented = CertificateFacts | 'none' | 'invalid';

export class ClientIdentity {
  readonly #gate: Gate;
  readonly #authorities: readonly Authority[];
  readonly #now: () => number;
  readonly #connections = new WeakMap<TLSSocket, Presented>();

  constructor(gate: Gate, authorities: readonly Authority[], now: () => number) {
    this.#gate = gate;
    this.#authorities = authorities;
    this.#now = now;
  }

  /** @throws KmsError `unauthenticated` */
  async principal({ socket }: IncomingMessage): Promise<Principal> {
    const presented = socket instanceof TLSSocket ? this.#presented(socket) : 'none';
    if (presented === 'none') throw refused('a client certificate is required');
    if (presented === 'invalid') throw refused('the client certificate was not issued by the access CA of this KMS');
    const now = this.#now();
    if (now < presented.notBeforeMs) throw refused('the client certificate is not valid yet');
    if (now >= presented.notAfterMs) throw refused('the client certificate has expired');
    return this.#gate.identify(presented);
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
