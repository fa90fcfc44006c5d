/** One installation that serves for the tests of a file, and its administrator's client; gone with the last of them. */

import { afterAll, beforeAll } from '@jest/globals';
import { type Client, Installation } from './installation.ts';

export interface Served {
  readonly kms: Installation;
  readonly admin: Client;
}

/**
 * @param use takes over what is served, before the first test
 * @param extra settings of the service
 */
export function serve(use: (served: Served) => void | Promise<void>, extra: NodeJS.ProcessEnv = {}): void {
  let served: Served | undefined;
  beforeAll(async () => {
    const kms = await Installation.make(extra);
    await kms.start();
    served = { kms, admin: kms.client() };
    await use(served);
  });
  afterAll(async () => {
    await served?.admin.close();
    await served?.kms.remove();
  });
}
