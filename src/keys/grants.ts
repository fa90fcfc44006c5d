/** What the roles of a caller give, and of all that it speaks for; remembered while nothing was committed since. */

import { type Grant, grantsOf } from '../auth/policy.ts';
import { KmsError } from '../errors.ts';
import type { KeyStore } from '../store/store.ts';
import type { Call } from './access.ts';
import { type ChangeWatch, FreshCache } from './cache.ts';
import type { CustomRole, Holder, Permission } from './key.ts';

const PRINCIPALS_CACHED = 10_000;

export class Grants {
  readonly #store: Pick<KeyStore, 'assignments' | 'customRoles'>;
  readonly #grants: FreshCache<readonly Grant[]>;
  readonly #customRoles: FreshCache<readonly CustomRole[]>;

  constructor(store: Pick<KeyStore, 'assignments' | 'customRoles'>, watch: ChangeWatch) {
    this.#store = store;
    this.#grants = new FreshCache(watch, PRINCIPALS_CACHED);
    this.#customRoles = new FreshCache(watch, 1);
  }

  /** @param permission that they will be asked for @throws KmsError `internal` when the route of the call does not declare it */
  of({ principal, declared }: Pick<Call, 'principal' | 'declared'>, permission: Permission): Promise<readonly Grant[]> {
    if (declared?.includes(permission) === false) throw new KmsError('internal', `the route does not declare ${permission}`);
    const { method, issuer, subject, memberships } = principal;
    const holders = [{ method, issuer, subject }, ...memberships];
    return this.#grants.get(JSON.stringify(holders), () => this.#load(holders));
  }

  async #load(holders: readonly Holder[]): Promise<readonly Grant[]> {
    const custom = await this.#customRoles.get('', () => this.#store.customRoles());
    const assignments = await Promise.all(holders.map((holder) => this.#store.assignments(holder)));
    return grantsOf(assignments.flat(), custom);
  }
}
