/** A CA of the operator's own: certificates of any shape, and CRLs. */

import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const SECOND = 1000;

export interface Shape {
  readonly cn?: string;
  readonly san?: readonly { readonly type: 'dns' | 'email' | 'url'; readonly value: string }[];
  readonly usages?: readonly string[];
  /** Seconds from now. */
  readonly from?: number;
  readonly until?: number;
}

export interface Pair {
  readonly cert: string;
  readonly key: string;
  readonly serial: string;
}

type Keys = Awaited<ReturnType<typeof newKeys>>;

function newKeys() {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function pem(key: CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');
}

export class OwnCa {
  readonly certificate: string;
  readonly #name: string;
  readonly #keys: Keys;

  private constructor(certificate: string, name: string, keys: Keys) {
    this.certificate = certificate;
    this.#name = name;
    this.#keys = keys;
  }

  static async make(commonName: string): Promise<OwnCa> {
    const keys = await newKeys();
    const name = `CN=${commonName}`;
    const made = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: '01', name, keys, signingAlgorithm: ALGORITHM, notBefore: at(-3600), notAfter: at(86_400),
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      ],
    }, webcrypto);
    return new OwnCa(made.toString('pem'), name, keys);
  }

  async issue({ cn = 'somebody', san = [], usages = [x509.ExtendedKeyUsage.clientAuth], from = -60, until = 3600 }: Shape): Promise<Pair> {
    const keys = await newKeys();
    const serial = Buffer.from(webcrypto.getRandomValues(new Uint8Array(15))).toString('hex').replace(/^./, '7');
    const made = await x509.X509CertificateGenerator.create({
      serialNumber: serial, subject: cn === '' ? '' : `CN=${cn}`, issuer: this.#name, notBefore: at(from), notAfter: at(until),
      publicKey: keys.publicKey, signingKey: this.#keys.privateKey, signingAlgorithm: ALGORITHM,
      extensions: [
        ...(usages.length === 0 ? [] : [new x509.ExtendedKeyUsageExtension([...usages])]),
        ...(san.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension([...san])]),
      ],
    }, webcrypto);
    return { cert: made.toString('pem'), key: await pem(keys.privateKey), serial };
  }

  /** @param until seconds from now when the next one is due */
  async crl(serials: readonly string[], until = 3600): Promise<string> {
    const crl = await x509.X509CrlGenerator.create({
      issuer: this.#name, thisUpdate: at(-60), nextUpdate: at(until), signingKey: this.#keys.privateKey, signingAlgorithm: ALGORITHM,
      entries: serials.map((serialNumber) => ({ serialNumber, revocationDate: at(-30) })),
    }, webcrypto);
    return x509.PemConverter.encode(crl.rawData, 'X509 CRL');
  }
}

function at(seconds: number): Date {
  return new Date(Date.now() + seconds * SECOND);
}

export const SERVER_AUTH = x509.ExtendedKeyUsage.serverAuth;
