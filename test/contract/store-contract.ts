/** What every KeyStore must do. Registers the whole suite for one database. */

import { afterEach, beforeEach, describe } from '@jest/globals';
import type { KeyStore } from '../../src/store/store.ts';
import { accessSuite } from '../store/access-suite.ts';
import { namingSuite } from '../store/naming-suite.ts';
import { fleetSuite } from '../store/fleet-suite.ts';
import { intentSuite } from '../store/intent-suite.ts';
import { keySuite } from '../store/key-suite.ts';
import { sharingSuite } from '../store/sharing-suite.ts';

export interface OpenedStores {
  /** Two stores on one empty database of the newest schema, as two server processes have them. */
  readonly a: KeyStore;
  readonly b: KeyStore;
  /** Their boot ids. */
  readonly boots: readonly [string, string];
  /** Closes both, if they are not yet; the database is the next test’s, or gone. */
  dispose(): Promise<void>;
}

/** Read inside tests only: each test has its own. */
export type Stores = () => OpenedStores;

export function storeContract(name: string, open: () => Promise<OpenedStores>): void {
  describe(`store contract on ${name}`, () => {
    let opened: OpenedStores;
    beforeEach(async () => {
      opened = await open();
    });
    afterEach(() => opened.dispose());

    accessSuite(() => opened);
    keySuite(() => opened);
    namingSuite(() => opened);
    intentSuite(() => opened);
    sharingSuite(() => opened);
    fleetSuite(() => opened);
  });
}
