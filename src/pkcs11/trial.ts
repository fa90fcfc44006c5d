/** Runs operations on a test key that lives as a session object for one job: self-tests and capability probes. */

import type { Handle } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import { createPublicHalf, unwrapInto } from './import.ts';
import type { TrialResult, TrialStep, WrappedKey } from './job.ts';
import { toCkMechanism } from './mechanism.ts';
import type { TokenSession } from './session.ts';
import { destroyAfter, unwrapBytes, wrapBytes } from './wrap.ts';

const NAMING = { id: Buffer.alloc(16), label: 'kms-trial' };
const EXPANSION = 16;

export function trial(
  session: TokenSession,
  importKey: Handle,
  wrapped: WrappedKey,
  steps: readonly TrialStep[],
): readonly TrialResult[] {
  const key = unwrapInto(session, importKey, NAMING, wrapped, false);
  return destroyAfter(session, key, () => {
    const { half } = wrapped;
    if (half === null) return steps.map((step) => attempt(() => run(session, key, key, step)));
    const publicKey = createPublicHalf(session, NAMING, wrapped.purpose, half, false);
    return destroyAfter(session, publicKey, () => steps.map((step) => attempt(() => run(session, key, publicKey, step))));
  });
}

function attempt(run: () => Uint8Array | boolean): TrialResult {
  try {
    return { ok: run() };
  } catch (error) {
    if (error instanceof CryptokiError) return { code: error.code, call: error.call };
    throw error;
  }
}

function run(session: TokenSession, key: Handle, publicKey: Handle, step: TrialStep): Uint8Array | boolean {
  const { cryptoki, handle, profile } = session;
  switch (step.op) {
    case 'encrypt':
      return cryptoki.encrypt(handle, toCkMechanism(step.mechanism, profile), key, step.data, step.data.length + EXPANSION);
    case 'decrypt':
      return cryptoki.decrypt(handle, toCkMechanism(step.mechanism, profile), key, step.data, step.data.length);
    case 'sign':
      return cryptoki.sign(handle, toCkMechanism(step.mechanism, profile), key, step.data, step.length);
    case 'verify':
      cryptoki.verify(handle, toCkMechanism(step.mechanism, profile), publicKey, step.data, step.signature);
      return true;
    case 'wrapBytes':
      return wrapBytes(session, key, step.mechanism, step.data);
    case 'unwrapBytes':
      return unwrapBytes(session, key, step.mechanism, step.data);
  }
}
