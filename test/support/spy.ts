/**
 * OpenSC's pkcs11-spy between the service and its module: writes every call with arguments and result to a file. The
 * file holds PINs and plaintext, so it lives in the home of an installation and goes with it.
 */

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify, parse } from 'yaml';
import { Installation } from './installation.ts';

const LIBRARIES = '/usr/lib';

/** Absolute path of pkcs11-spy.so, undefined when it is not installed (Debian package opensc-pkcs11). */
export function findSpy(): string | undefined {
  const places = readdirSync(LIBRARIES).flatMap((name) => [join(LIBRARIES, name), join(LIBRARIES, name, 'pkcs11')]);
  return [LIBRARIES, ...places].map((place) => join(place, 'pkcs11-spy.so')).find((path) => existsSync(path));
}

/** In the dump of a call with a template: a value that begins as an anchor does, `KMSA` 0x01 (integrity §5). */
export const ANCHOR = /CKA_VALUE[^\n]*\n\s*00000000\s+4B 4D 53 41 01/i;

export interface SpiedCall {
  /** Such as `C_Login`. */
  readonly name: string;
  /** Everything written about it: arguments and results. */
  readonly text: string;
}

/** An installation whose processes reach their token through the spy. */
export class SpiedInstallation {
  readonly kms: Installation;
  readonly #profile: string;

  private constructor(kms: Installation, profile: string) {
    this.kms = kms;
    this.#profile = profile;
  }

  static async make(spy: string, extra: NodeJS.ProcessEnv = {}): Promise<SpiedInstallation> {
    const directory = mkdtempSync(join(tmpdir(), 'kms-test-'));
    const profile = join(directory, 'spied.yaml');
    writeFileSync(profile, spiedProfile(spy));
    const kms = await Installation.fresh({ ...extra, KMS_HSM_PROFILE: profile });
    return new SpiedInstallation(kms, directory);
  }

  async remove(): Promise<void> {
    await this.kms.remove();
    rmSync(this.#profile, { recursive: true, force: true });
  }

  get #log(): string {
    return join(this.kms.home, 'spy.log');
  }

  /** Forgets what was written so far; only while no process has the file open. */
  clear(): void {
    rmSync(this.#log, { force: true });
  }

  /** Bytes written so far; hand it to `calls` to see only what comes after. */
  mark(): number {
    return existsSync(this.#log) ? readFileSync(this.#log).length : 0;
  }

  /**
   * Calls in the order of the file. Threads of several processes write it at once, so a call's text may hold lines of
   * another; the line that begins a call is never torn.
   */
  calls(from = 0): readonly SpiedCall[] {
    const text = existsSync(this.#log) ? readFileSync(this.#log).subarray(from).toString('latin1') : '';
    return text
      .split(/^(?=\d+: C_)/m)
      .filter((part) => /^\d+: C_/.test(part))
      .map((part) => ({ name: /C_\w+/.exec(part)?.[0] ?? '', text: part }));
  }

  count(name: string, from = 0): number {
    return this.calls(from).filter((call) => call.name === name).length;
  }
}

function spiedProfile(spy: string): string {
  const profile = parse(readFileSync('hsm-config/softhsm-2.6.1.yaml', 'utf8'));
  const environment = { ...profile.environment, PKCS11SPY: profile.module, PKCS11SPY_OUTPUT: '${KMS_HOME}/spy.log' };
  return stringify({ ...profile, name: 'softhsm-spied', module: spy, environment });
}
