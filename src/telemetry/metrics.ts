/** Every metric name of the service. Readings come in as functions, so that telemetry stays a leaf. */

import { AggregatorRegistry, Counter, Histogram, Registry } from 'prom-client';
import type { MetricObjectWithValues, MetricValue } from 'prom-client';

import { addCounter, addGauge, by, flag, one } from './readings.ts';
import type { Samples } from './readings.ts';

/** What a process can tell; a metric without its reading does not exist in that process. */
export interface MetricReadings {
  /** Jobs waiting now, by class. */
  readonly tokenQueueDepth?: () => Readonly<Record<string, number>>;
  /** Jobs since start, one row per class and outcome. */
  readonly tokenJobs?: () => readonly TokenJobCount[];
  /** Token threads that are stuck now. */
  readonly tokenThreadsLost?: () => number;
  /** Durable records since start. */
  readonly auditRecords?: () => number;
  readonly auditHealthy?: () => boolean;
  /** Restarts of server processes since the supervisor's start, by reason. */
  readonly processRestarts?: () => Readonly<Record<string, number>>;
  readonly ready?: () => boolean;
  /** GCM invocations reserved since start. */
  readonly gcmReserved?: () => number;
  /** Rows of the store that failed their seals since start. */
  readonly integrityFailures?: () => number;
  /** What does not fit between store and token, by kind. */
  readonly findings?: () => Readonly<Record<string, number>>;
}

export interface TokenJobCount {
  readonly class: string;
  readonly outcome: string;
  readonly count: number;
}

/** The state of all metrics of one process: plain JSON, fit for a message to the supervisor. */
export type MetricsSnapshot = readonly MetricObjectWithValues<MetricValue<string>>[];

export interface Metrics {
  /** Counts an answered request: HTTP status, seconds from its headers to the end of the reply. */
  request(door: string, operation: string, status: number, seconds: number): void;
  /** The Prometheus text format. */
  render(): Promise<string>;
  snapshot(): Promise<MetricsSnapshot>;
}

/** From half a millisecond (an operation of the token) to 10 s (a key generation). */
const SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function createMetrics(readings: MetricReadings): Metrics {
  const registry = new Registry();
  addReadings(registry, readings);
  return {
    request: addRequests(registry),
    render: () => registry.metrics(),
    snapshot: () => registry.getMetricsAsJSON(),
  };
}

/** One text for several processes: values are summed, so `kms_ready` counts processes; audit health is the worst. */
export async function renderAggregate(snapshots: readonly MetricsSnapshot[]): Promise<string> {
  return await AggregatorRegistry.aggregate([...snapshots]).metrics();
}

function addRequests(registry: Registry): Metrics['request'] {
  const total = new Counter({
    name: 'kms_requests_total',
    help: 'Answered requests.',
    labelNames: ['door', 'operation', 'status'],
    registers: [registry],
  });
  const duration = new Histogram({
    name: 'kms_request_seconds',
    help: 'Time from the headers of a request to the end of its reply.',
    labelNames: ['door', 'operation'],
    buckets: SECONDS,
    registers: [registry],
  });
  return (door, operation, status, seconds) => {
    total.inc({ door, operation, status });
    duration.observe({ door, operation }, seconds);
  };
}

function addReadings(registry: Registry, readings: MetricReadings): void {
  addTokenReadings(registry, readings);
  addCounter(registry, {
    name: 'kms_audit_records_total',
    help: 'Audit records on disk.',
    samples: one(readings.auditRecords),
  });
  addGauge(registry, {
    name: 'kms_audit_healthy',
    help: '1 while the audit log can be written.',
    aggregator: 'min',
    samples: flag(readings.auditHealthy),
  });
  addCounter(registry, {
    name: 'kms_process_restarts_total',
    help: 'Restarts of server processes.',
    labelNames: ['reason'],
    samples: by('reason', readings.processRestarts),
  });
  addGauge(registry, { name: 'kms_ready', help: 'Server processes that are ready.', samples: flag(readings.ready) });
  addCounter(registry, {
    name: 'kms_gcm_reserved_total',
    help: 'GCM invocations reserved.',
    samples: one(readings.gcmReserved),
  });
  addStoreReadings(registry, readings);
}

function addStoreReadings(registry: Registry, readings: MetricReadings): void {
  addCounter(registry, {
    name: 'kms_integrity_failures_total',
    help: 'Rows of the store that failed their seals.',
    samples: one(readings.integrityFailures),
  });
  addGauge(registry, {
    name: 'kms_reconcile_findings',
    help: 'What does not fit between store and token, at the newest comparison.',
    labelNames: ['kind'],
    aggregator: 'max',
    samples: by('kind', readings.findings),
  });
}

function addTokenReadings(registry: Registry, readings: MetricReadings): void {
  addGauge(registry, {
    name: 'kms_token_queue_depth',
    help: 'Jobs that wait for a token thread.',
    labelNames: ['class'],
    samples: by('class', readings.tokenQueueDepth),
  });
  addCounter(registry, {
    name: 'kms_token_jobs_total',
    help: 'Jobs of the token threads.',
    labelNames: ['class', 'outcome'],
    samples: jobSamples(readings.tokenJobs),
  });
  addGauge(registry, {
    name: 'kms_token_threads_lost',
    help: 'Token threads stuck in a call.',
    samples: one(readings.tokenThreadsLost),
  });
}

function jobSamples(read: MetricReadings['tokenJobs']): Samples | undefined {
  return read && (() => read().map(({ count, ...labels }) => ({ labels: { ...labels }, value: count })));
}
