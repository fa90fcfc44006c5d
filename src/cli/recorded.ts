/** Changes by commands: done is done when it is in the audit, and every server knows. */

import type { AuditEvent } from '../audit/record.ts';
import type { Config } from '../config.ts';
import { operator, type Session, withSession } from './session.ts';

/** A session that is known to the servers, which may run beside it. */
export function changingSession<T>(config: Config, work: (session: Session) => Promise<T>): Promise<T> {
  return withSession(config, async (session) => {
    await session.openStore();
    await session.enrol();
    return work(session);
  });
}

/** Of a change that is committed under this request id. */
export async function recorded(
  { audit, config, outbox, store }: Session,
  what: Pick<AuditEvent, 'event' | 'vault' | 'detail'> & { readonly requestId: string },
): Promise<void> {
  await audit.append({ ...what, result: 'success', principal: operator(config) });
  outbox.recorded(what.requestId);
  await store.effectiveEverywhere();
}
