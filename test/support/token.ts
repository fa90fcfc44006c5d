/**
 * A real token in a temporary home, with token threads in the jest process: provisioned, with its canary and import
 * key, opened a second time as a server opens it. One module per test file, for C_Initialize is of the process.
 */

import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CryptoEngine as Engine, GeneratedMaterial, KeyShape } from '../../src/crypto/engine.ts';
import type { Curve, Family, InternalKey, KeyObject, Usage } from '../../src/keys/key.ts';
import type { Profile, Token as TokenType } from '../../src/pkcs11/token.ts';
import { CryptoEngine, labelPrefixes, loadProfile, makeInternalKey, planObjects, Token } from './built.ts';
import { RawToken } from './raw-token.ts';

export const THREADS = 3;
export const INSTALLATION = '4f1c1d0e-0000-4000-8000-000000000001';
const STOP_MS = 5000;
/** Fits every module: NSS in FIPS mode wants three classes and does not count a leading capital or a trailing digit. */
const PIN = 'aB1-of-the-test';

export interface TokenPlace {
  /** Name of a file in hsm-config/. */
  readonly profile: string;
  readonly tokenLabel: string;
  readonly variables?: Readonly<Record<string, string>>;
  /** Variables of the module beside those of the profile. */
  readonly environment?: Readonly<Record<string, string>>;
  /** What differs from the file. */
  readonly patch?: (profile: Profile) => Profile;
}

export const oct = (bits: 128 | 192 | 256): KeyShape => ({ kind: 'oct', bits, curve: null, usages: [] });
export const rsa = (bits: number, ...usages: Usage[]): KeyShape => ({ kind: 'RSA', bits, curve: null, usages });
export const ec = (curve: Curve): KeyShape => ({ kind: 'EC', bits: null, curve, usages: ['sign', 'verify'] });

export class TestToken {
  readonly home: string;
  readonly profile: Profile;
  readonly #place: TokenPlace;
  #token: TokenType | undefined;
  #engine: Engine | undefined;
  #raw: RawToken | undefined;
  #canary: InternalKey | undefined;
  #importKey: InternalKey | undefined;

  private constructor(place: TokenPlace) {
    this.#place = place;
    this.home = mkdtempSync(join(tmpdir(), 'kms-test-'));
    const tokens = join(this.home, 'softhsm', 'tokens');
    mkdirSync(tokens, { recursive: true });
    mkdirSync(join(this.home, 'nss'));
    const configuration = readFileSync('softhsm2.conf', 'utf8').replaceAll('@TOKENDIR@', tokens);
    writeFileSync(join(this.home, 'softhsm', 'softhsm2.conf'), configuration);
    writeFileSync(join(this.home, 'user.pin'), `${PIN}\n`, { mode: 0o600 });
    writeFileSync(join(this.home, 'so.pin'), 'so-pin-of-the-test\n', { mode: 0o600 });
    const profile = loadProfile(join('hsm-config', `${place.profile}.yaml`), { KMS_HOME: this.home, ...place.variables });
    this.profile = place.patch?.(profile) ?? profile;
    // Native code sees only the environment of the process, which the sandbox hides.
    for (const [name, value] of Object.entries({ ...this.profile.environment, ...place.environment })) realEnvironment.set(name, value);
  }

  static async make(place: TokenPlace): Promise<TestToken> {
    const made = new TestToken(place);
    try {
      await made.open({ provision: true });
      const { internal } = labelPrefixes(INSTALLATION);
      made.#canary = await makeInternalKey(made.token, internal, 'canary');
      made.#importKey = await makeInternalKey(made.token, internal, 'import');
      await made.reopen();
      return made;
    } catch (error) {
      await made.remove();
      throw error;
    }
  }

  get tokenLabel(): string {
    return this.#place.tokenLabel;
  }

  get token(): TokenType {
    return present(this.#token);
  }

  get engine(): Engine {
    return present(this.#engine);
  }

  get raw(): RawToken {
    this.#raw ??= new RawToken(this.profile, this.tokenLabel);
    return this.#raw;
  }

  get importKey(): InternalKey {
    return present(this.#importKey);
  }

  get canary(): InternalKey {
    return present(this.#canary);
  }

  /** Stops and starts again, as a new process would: a new epoch, in which every object proves itself again. */
  async reopen(how: { readonly provision?: boolean; readonly profile?: Profile } = {}): Promise<string> {
    await this.stop();
    await this.open(how);
    this.#engine = new CryptoEngine(this.token, INSTALLATION, this.importKey);
    return this.#engine.selfTest();
  }

  /** @throws Error naming the state when the token does not become ready */
  async open({ provision = false, profile = this.profile }: { readonly provision?: boolean; readonly profile?: Profile }): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#token = new Token({
        threads: THREADS,
        batchMax: 32,
        queueMax: 10_000,
        callTimeoutMs: 60_000,
        createTimeoutMs: 60_000,
        lostThreadsMax: 1,
        destroyable: labelPrefixes(INSTALLATION).keys,
        mayLogin: () => Promise.resolve(),
    exclusively: (run) => run(),
        onLost: (reason) => { reject(new Error(`token lost: ${reason}`)); },
        onState: (state) => {
          if (state.phase === 'ready') resolve();
          else reject(new Error(`token not ready: ${JSON.stringify(state)}`));
        },
        setup: {
          profile,
          tokenLabel: this.tokenLabel,
          tokenSerial: null,
          pinFile: join(this.home, 'user.pin'),
          canary: this.#canary === undefined ? null : { objectId: this.#canary.objectId, mac: this.#canary.proof },
          provision: provision ? { soPinFile: join(this.home, 'so.pin') } : null,
          latchFile: join(this.home, 'pin.latch'),
        },
      });
    });
  }

  async stop(): Promise<'clean' | 'stuck'> {
    this.#raw = undefined;
    const token = this.#token;
    this.#token = undefined;
    return token === undefined ? 'clean' : token.stop(STOP_MS);
  }

  /** Removes the home. @throws Error when a thread hung */
  async remove(): Promise<void> {
    const end = await this.stop();
    rmSync(this.home, { recursive: true, force: true });
    if (end !== 'clean') throw new Error('a token thread hung');
  }

  /** `kms:<installation>:<version>:<family>`, as the engine writes it. */
  label(versionId: string, family: string): string {
    return `${labelPrefixes(INSTALLATION).keys}${versionId}:${family}`;
  }

  generate(shape: KeyShape, families: readonly Family[], versionId = newId()): Promise<GeneratedMaterial> {
    return this.engine.generate(shape, versionId, planObjects(families));
  }

  /** Imports and, when that fails, destroys what was planned, as the life cycle does. */
  async import(
    shape: KeyShape,
    families: readonly Family[],
    material: Uint8Array | null,
    publicKey: Uint8Array | null = null,
  ): Promise<GeneratedMaterial> {
    const planned = planObjects(families);
    try {
      return await this.engine.importKey(shape, newId(), planned, material, publicKey);
    } catch (error) {
      await this.engine.destroy(planned.map(({ objectId }) => objectId));
      throw error;
    }
  }

  /** An AES key of known value for one family. */
  async importOct(value: Buffer, family: Family): Promise<KeyObject> {
    return objectOf(await this.import(oct((value.length * 8) as 256), [family], Buffer.from(value)), family);
  }
}

export function newId(): string {
  return randomBytes(16).toString('hex');
}

export function objectOf({ objects }: GeneratedMaterial, family: Family): KeyObject {
  return present(objects.find((object) => object.family === family));
}

export function present<T>(value: T | null | undefined): T {
  if (value === undefined || value === null) throw new Error('not there');
  return value;
}
