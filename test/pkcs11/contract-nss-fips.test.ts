/** The token contract on NSS in FIPS mode, which refuses plaintext keys in both directions. */

import { resolve } from 'node:path';
import { tokenContract } from '../contract/token-contract.ts';
import { TestToken } from '../support/token.ts';

const variables = { KMS_NSS_FIPS_SHIM: resolve('build/fault/libnssfips.so') };

// Each use of a permanent object derives a key from the PIN, 10,000 rounds by default: slow, and nothing we test.
const environment = { NSS_MAX_MP_PBE_ITERATION_COUNT: '1' };

tokenContract(
  'NSS softokn in FIPS mode',
  () => TestToken.make({ profile: 'nss-fips', tokenLabel: 'NSS FIPS 140-2 Certificate DB', environment, variables }),
  // As NSS softokn.
  new Set(['ECDSA-P-256K', 'CKA_ALLOWED_MECHANISMS', 'CKA_COPYABLE', 'CKA_LOCAL', 'several-objects-of-one-id', 'private-usages-on-import', 'RSA1_5-explicit-rejection', 'data-objects']),
);
