/**
 * Whether the token may be used, and for what: the verdict of the last self-test and a watch over its generator.
 * Nothing is served before the first self-test passed, nor after one that failed until one passes again.
 */

import { createHash } from 'node:crypto';
import { KmsError } from '../errors.ts';
import type { SelfTestReport } from './self-test.ts';
import type { Capability } from './trial-group.ts';

/** Outputs of the generator that are remembered. */
const REMEMBERED = 1024;

export class Fitness {
  #verdict: 'untested' | 'passed' | 'failed' = 'untested';
  #reason = 'the self-test has not run yet';
  #supported: ReadonlySet<Capability> = new Set();
  #refused: ReadonlyMap<Capability, number> = new Map();
  readonly #seen = new Set<string>();
  #generatorFaulty = false;
  /** Told when the generator repeated itself: a self-test should run now. */
  onSuspicion: () => void = () => undefined;

  /** `ok`, or why the token must not be used. */
  get state(): string {
    if (this.#generatorFaulty) return 'the random generator repeated itself';
    return this.#verdict === 'passed' ? 'ok' : this.#reason;
  }

  get capabilities(): { readonly supported: readonly Capability[]; readonly refused: readonly Capability[] } {
    return { supported: [...this.#supported], refused: [...this.#refused.keys()] };
  }

  /** @param generatorSound whether fresh outputs of the generator differ from each other and from the remembered ones */
  passed({ supported, refused, failed }: SelfTestReport, generatorSound: boolean): void {
    this.#supported = supported;
    this.#refused = refused;
    this.#verdict = failed.length === 0 ? 'passed' : 'failed';
    this.#reason = `self-test failed: ${failed.join(', ')}`;
    this.#generatorFaulty = !generatorSound;
  }

  /** The self-test could not run. */
  failed(reason: string): void {
    this.#verdict = 'failed';
    this.#reason = `self-test failed: ${reason}`;
  }

  /** @throws KmsError `token-unavailable` before the first self-test passed, and after one that failed */
  assertTrusted(): void {
    if (this.#verdict !== 'passed') throw untrusted();
  }

  /** @throws KmsError `token-unavailable` while the token is not trusted, `unsupported-by-token` for what it cannot do */
  assert(capability: Capability): void {
    this.assertTrusted();
    if (this.#supported.has(capability)) return;
    throw new KmsError('unsupported-by-token', `${capability}: not supported by this HSM`);
  }

  supports(capability: Capability): boolean {
    return this.#supported.has(capability);
  }

  /** Protecting anything needs a generator that does not repeat itself. @throws KmsError `token-unavailable` */
  assertGenerator(): void {
    this.assertTrusted();
    if (this.#generatorFaulty) throw untrusted();
  }

  /**
   * Notes an output of the generator, at least 12 bytes; only its hash is kept.
   * @throws KmsError `token-unavailable` when it was seen among the last 1,024: what was made with it must be dropped
   */
  noteRandom(output: Uint8Array): void {
    if (this.isFresh(output)) return;
    this.#generatorFaulty = true;
    this.onSuspicion();
    throw untrusted();
  }

  /** Remembers the output. */
  isFresh(output: Uint8Array): boolean {
    const hash = createHash('sha256').update(output).digest('base64');
    if (this.#seen.has(hash)) return false;
    this.#seen.add(hash);
    if (this.#seen.size > REMEMBERED) this.#forgetOldest();
    return true;
  }

  #forgetOldest(): void {
    const [oldest] = this.#seen;
    if (oldest !== undefined) this.#seen.delete(oldest);
  }
}

function untrusted(): KmsError {
  return new KmsError('token-unavailable', 'the HSM did not pass its self-test', { retryAfter: 5 });
}
