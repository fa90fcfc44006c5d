/** How a client shows its secret: by HTTP Basic, or in the form (RFC 6749 §2.3.1). Pure. */

import { decodeBase64 } from '../../bytes.ts';
import { KmsError } from '../../errors.ts';
import { decodeFormText } from '../strict-form.ts';

export interface ShownSecret {
  readonly id: string;
  readonly secret: string;
}

/**
 * @param authorization header, empty for none
 * @throws KmsError `unauthenticated` without any; `malformed-request` for both, of which only one is allowed
 */
export function shownSecret(authorization: string, form: { readonly client_id?: string | undefined; readonly client_secret?: string | undefined }): ShownSecret {
  const { client_id: id, client_secret: secret } = form;
  if (authorization === '') {
    if (id === undefined || secret === undefined) throw refused('client_id and client_secret are required');
    return { id: id.toLowerCase(), secret };
  }
  const basic = readBasic(authorization);
  if (secret !== undefined || (id !== undefined && id.toLowerCase() !== basic.id)) {
    throw new KmsError('malformed-request', 'expected one way of client authentication, not two');
  }
  return basic;
}

function readBasic(authorization: string): ShownSecret {
  const [, encoded = ''] = /^Basic ([\w+/=]{1,2048})$/i.exec(authorization) ?? [];
  const text = decodeBase64(encoded)?.toString('utf8') ?? '';
  const at = text.indexOf(':');
  if (at < 1) throw refused('expected HTTP Basic with client id and secret');
  return { id: decodeFormText(text.slice(0, at)).toLowerCase(), secret: decodeFormText(text.slice(at + 1)) };
}

function refused(message: string): KmsError {
  return new KmsError('unauthenticated', message);
}
