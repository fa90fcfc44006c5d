/** The token contract on SoftHSM 2.6.1, the token of development. */

import { tokenContract } from '../contract/token-contract.ts';
import { TestToken } from '../support/token.ts';

tokenContract(
  'SoftHSM',
  () => TestToken.make({ profile: 'softhsm-2.6.1', tokenLabel: 'kms-contract' }),
  // 2.6.1 pads other lengths silently; it refuses OAEP hashes but SHA-1.
  new Set(['KWP-any-length', 'RSA-OAEP-256-in-token']),
);
