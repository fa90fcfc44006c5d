/**
 * What is on the token, with labels: for the reconciler and for reports, which must see every key object, also one that
 * cannot be read. Three reads for each object, hence never on a request path.
 */

import ck from 'pkcs11js';
import type { Handle } from './cryptoki.ts';
import type { Part, SurveyedObject } from './job.ts';
import { isHandleGone, isOfTheObject } from './return-value.ts';
import type { TokenSession } from './session.ts';

const CLASSES: readonly (readonly [Part, number])[] = [
  ['secret', ck.CKO_SECRET_KEY],
  ['private', ck.CKO_PRIVATE_KEY],
  ['public', ck.CKO_PUBLIC_KEY],
];

/** Searched by class, so that the class of an object is known even when nothing of it can be read. */
export function survey(session: TokenSession): readonly SurveyedObject[] {
  const { cryptoki, handle } = session;
  return CLASSES.flatMap(([part, type]) =>
    cryptoki
      .find(handle, [{ type: ck.CKA_TOKEN, value: true }, { type: ck.CKA_CLASS, value: type }])
      .map((object) => look(session, object, part))
      .filter((object) => object !== undefined));
}

/** @returns undefined when it was destroyed meanwhile */
function look(session: TokenSession, object: Handle, part: Part): SurveyedObject | undefined {
  try {
    const extractable = part === 'public' ? null : read(session, object, ck.CKA_EXTRACTABLE);
    return {
      objectId: read(session, object, ck.CKA_ID)?.toString('hex') ?? '',
      part,
      label: read(session, object, ck.CKA_LABEL)?.toString('utf8') ?? null,
      extractable: extractable?.length === 1 ? extractable[0] !== 0 : null,
    };
  } catch (error) {
    if (isHandleGone(error, session.profile)) return undefined;
    throw error;
  }
}

/** @returns null when the object does not give the attribute */
function read({ cryptoki, handle, profile }: TokenSession, object: Handle, type: number): Buffer | null {
  try {
    return cryptoki.attribute(handle, object, type);
  } catch (error) {
    if (!isOfTheObject(error, profile)) throw error;
    return null;
  }
}
