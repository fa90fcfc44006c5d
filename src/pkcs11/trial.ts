/** Runs operations on a test key that lives as a session object for one job: self-tests and capability probes. */

import type { Handle } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import { encryptGcm } from './gcm.ts';
import { createPublicHalf, unwrapInto } from './import.ts';
import type { TrialResult, TrialStep, WrappedKey } from './job.ts';
import { toCkMechanism } from './mechanism.ts';
import { isUnsupported } from './return-value.ts';
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
  const { half } = wrapped;
  const key = attempt(() => unwrapInto(session, importKey, NAMING, wrapped, false));
  if ('code' in key) {
    // A curve the token does not know; any other key that it does not take is no matter of one capability.
    if (half?.type === 'ec' && isUnsupported(key.code)) return steps.map(() => key);
    throw new CryptokiError(key.call, key.code);
  }
  return destroyAfter(session, key.ok, () => {
    if (half === null) return steps.map((step) => attempt(() => run(session, key.ok, key.ok, step)));
    const publicKey = createPublicHalf(session, NAMING, wrapped.purpose, half, false);
    return destroyAfter(session, publicKey, () => steps.map((step) => attempt(() => run(session, key.ok, publicKey, step))));
  });
}

function attempt<T>(run: () => T): { readonly ok: T } | { readonly code: number; readonly call: string } {
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
    case 'encryptGcm': {
      const { iv, sealed } = encryptGcm(session, key, step.aad, step.data);
      return Buffer.concat([iv, sealed]);
    }
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
