/** The token contract on NSS softokn, a module of another make: other ids, other paths, other refusals. */

import { tokenContract } from '../contract/token-contract.ts';
import { TestToken } from '../support/token.ts';

// Each use of a permanent object derives a key from the PIN, 10,000 rounds by default: slow, and nothing we test.
const environment = { NSS_MAX_MP_PBE_ITERATION_COUNT: '1' };

tokenContract(
  'NSS softokn',
  () => TestToken.make({ profile: 'nss-softokn', tokenLabel: 'NSS Certificate DB', environment }),
  // It knows the NIST curves only, stores neither attribute, keeps one object of a class for each CKA_ID, and data objects
  // only as session objects.
  new Set(['ECDSA-P-256K', 'CKA_ALLOWED_MECHANISMS', 'CKA_COPYABLE', 'CKA_LOCAL', 'several-objects-of-one-id', 'private-usages-on-import', 'RSA1_5-explicit-rejection', 'data-objects']),
);
