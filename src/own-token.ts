/**
 * The token as one server process has it: opened with the settings, logged in when its turn on the host has come and no
 * PIN error is on record, and what each change of its state sets in motion.
 */

import type { Config } from './config.ts';
import { canaryOf } from './crypto/internal-keys.ts';
import type { Installation } from './keys/key.ts';
import { PinLatches } from './keys/pin-latches.ts';
import { pinFile, tokenOptions, tokenSetup } from './parts.ts';
import { labelPrefixes, pinSource, Token } from './pkcs11/token.ts';
import type { KeyStore } from './store/store.ts';
import type { Logger } from './telemetry/log.ts';

export interface TokenEvents {
  /** The token is lost for this process: it must be replaced. */
  readonly lost: (reason: string) => void;
  /** The token cannot be used yet; it is tried again. */
  readonly waiting: () => void;
  /** Resolves when this process may log in. */
  readonly mayLogin: () => Promise<void>;
  /** The login is behind. */
  readonly loggedIn: () => void;
  /** Runs a change of the token while no other process of this host makes one. */
  readonly exclusively: <T>(run: () => Promise<T>) => Promise<T>;
}

export interface OwnTokenParts {
  readonly config: Config;
  readonly installation: Installation;
  readonly store: KeyStore;
  readonly logger: Logger;
  readonly events: TokenEvents;
}

export class OwnToken {
  readonly token: Token;
  readonly #parts: OwnTokenParts;
  readonly #latches: PinLatches;

  /** Starts at once and returns before the token is ready. */
  constructor(parts: OwnTokenParts) {
    const { config, installation, store, logger, events } = parts;
    const { id, tokenLabel, tokenSerial } = installation;
    this.#parts = parts;
    this.#latches = new PinLatches({ store, hostId: config.hostId, source: () => pinSource(pinFile(config)), logger });
    this.token = new Token({
      ...tokenOptions(config),
      destroyable: labelPrefixes(id).keys,
      setup: { ...tokenSetup(config), tokenLabel, tokenSerial, canary: canaryOf(installation), provision: null },
      mayLogin: async () => {
        await this.#latches.released();
        await events.mayLogin();
      },
      // First among the processes of this host, then among the hosts.
      exclusively: (run) => events.exclusively(() => store.exclusively(run)),
      onLost: (reason) => { events.lost(reason); },
      onState: (state) => { this.#changed(state); },
    });
  }

  /** For readiness: `ok`, or what is the matter. */
  get check(): string {
    if (this.#latches.waiting) return 'starting: pin-latched';
    const { state } = this.token;
    return state.phase === 'ready' ? 'ok' : `${state.phase}: ${state.reason}`;
  }

  #changed(state: Token['state']): void {
    const { logger, events } = this.#parts;
    logger[state.phase === 'ready' ? 'info' : 'warn']({ token: state }, 'token');
    const latched = state.phase === 'starting' && state.reason === 'pin' ? this.#latches.failed() : undefined;
    const passed = state.phase === 'ready' ? this.#latches.passed() : undefined;
    Promise.all([latched, passed]).catch((err: unknown) => { logger.warn({ err }, 'the store does not know of the PIN'); });
    if (state.phase === 'starting') events.waiting();
    else events.loggedIn();
  }
}
