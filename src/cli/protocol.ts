/** Messages between the supervisor and its server processes. */

import type { Port } from '../app.ts';
import type { MetricsSnapshot } from '../telemetry/metrics.ts';

export type InstallationKind = 'dev' | 'prod';

/** What processes of a host do one at a time. */
export type Turn = 'login' | 'change';

export type ToProcess =
  /** A connection comes with it. */
  | { readonly kind: 'socket'; readonly id: number; readonly port: Port }
  | { readonly kind: 'drain' }
  | { readonly kind: 'turn'; readonly what: Turn }
  | { readonly kind: 'self-test' }
  | { readonly kind: 'metrics'; readonly id: number }
  /** Something the supervisor did, for the audit. */
  | { readonly kind: 'record'; readonly event: string; readonly detail: Readonly<Record<string, string | number>> };

export type ToSupervisor =
  /** Takes connections: answers health, and 503 for key operations. */
  | { readonly kind: 'listening' }
  | { readonly kind: 'ready'; readonly installation: InstallationKind }
  /** Answered with `turn`, and ended with `turn-over`. */
  | { readonly kind: 'asks-turn'; readonly what: Turn }
  | { readonly kind: 'turn-over'; readonly what: Turn }
  /** Cannot get ready now; it goes on trying. */
  | { readonly kind: 'waiting' }
  /** Must be replaced, the replacement first. */
  | { readonly kind: 'replace'; readonly reason: string }
  /** The connection is here; until then the supervisor keeps it. */
  | { readonly kind: 'took'; readonly id: number }
  | { readonly kind: 'drained' }
  /** Trying again cannot help: the service must end. */
  | { readonly kind: 'fatal'; readonly message: string }
  | { readonly kind: 'metrics'; readonly id: number; readonly snapshot: MetricsSnapshot };

/** Milliseconds a draining process has until its connections are closed. */
export const DRAIN_DEADLINE_MS = 10_000;
