/** Why the token cannot be used now. */

import type { StartFailure } from './job.ts';

/** `reason` says whether trying again makes sense. */
export class StartError extends Error {
  override readonly name = 'StartError';
  readonly reason: StartFailure;
  readonly code: number;

  constructor(reason: StartFailure, code = 0, message = `token not usable: ${reason}`) {
    super(message);
    this.reason = reason;
    this.code = code;
  }
}
