/** C_Initialize. Apart from the profile's reader: token threads start without YAML and schemas. */

import type { Profile } from './profile.ts';

/** CKF_OS_LOCKING_OK: without it SoftHSM's locks are off and two threads corrupt memory. */
const OS_LOCKING_OK = 2;

/** Arguments of C_Initialize. */
export function initializeArguments({ libraryParameters }: Profile): {
  readonly flags: number;
  readonly libraryParameters?: string;
} {
  // SoftHSM refuses a parameter; the binding drops the last character of one.
  return libraryParameters === '' ? { flags: OS_LOCKING_OK } : { flags: OS_LOCKING_OK, libraryParameters: `${libraryParameters} ` };
}
