import { describe, expect, test } from '@jest/globals';

import { createMetrics, renderAggregate } from '../../src/telemetry/metrics.ts';
import type { MetricReadings } from '../../src/telemetry/metrics.ts';

function readingsOf(queue: number, healthy = true): MetricReadings {
  return {
    tokenQueueDepth: () => ({ fast: queue, slow: 0 }),
    tokenJobs: () => [
      { class: 'fast', outcome: 'done', count: 10 },
      { class: 'fast', outcome: 'late', count: 1 },
    ],
    tokenThreadsLost: () => 1,
    auditRecords: () => 12,
    auditHealthy: () => healthy,
    processRestarts: () => ({ crash: 2 }),
    ready: () => true,
    gcmReserved: () => 1024,
  };
}

const samples = (text: string) => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

describe('one process', () => {
  test('renders every metric', async () => {
    const metrics = createMetrics(readingsOf(3));
    metrics.request('okms', 'encrypt', 200, 0.002);
    metrics.request('okms', 'encrypt', 200, 0.2);
    metrics.request('keyvault', 'sign', 503, 1);
    expect(samples(await metrics.render())).toEqual(
      expect.arrayContaining([
        'kms_requests_total{door="okms",operation="encrypt",status="200"} 2',
        'kms_requests_total{door="keyvault",operation="sign",status="503"} 1',
        'kms_request_seconds_bucket{le="0.0025",door="okms",operation="encrypt"} 1',
        'kms_request_seconds_count{door="okms",operation="encrypt"} 2',
        'kms_token_queue_depth{class="fast"} 3',
        'kms_token_queue_depth{class="slow"} 0',
        'kms_token_jobs_total{class="fast",outcome="done"} 10',
        'kms_token_jobs_total{class="fast",outcome="late"} 1',
        'kms_token_threads_lost 1',
        'kms_audit_records_total 12',
        'kms_audit_healthy 1',
        'kms_process_restarts_total{reason="crash"} 2',
        'kms_ready 1',
        'kms_gcm_reserved_total 1024',
      ]),
    );
  });

  test('readings are taken at each scrape', async () => {
    let records = 1;
    const metrics = createMetrics({ auditRecords: () => records });
    expect(await metrics.render()).toContain('kms_audit_records_total 1\n');
    records = 5;
    expect(await metrics.render()).toContain('kms_audit_records_total 5\n');
  });

  test('without a reading there is no metric, and no false zero', async () => {
    const text = await createMetrics({ processRestarts: () => ({}) }).render();
    expect(text).not.toContain('kms_audit_healthy');
    expect(text).not.toContain('kms_ready');
  });

  test('two in one program do not share anything', async () => {
    const first = createMetrics({});
    createMetrics({}).request('okms', 'sign', 200, 1);
    expect(samples(await first.render()).filter((line) => line.startsWith('kms_requests_total{'))).toEqual([]);
  });
});

describe('several processes', () => {
  test('values are summed, and audit health is the worst', async () => {
    const processes = [createMetrics(readingsOf(3)), createMetrics(readingsOf(4, false))];
    for (const metrics of processes) metrics.request('okms', 'encrypt', 200, 0.002);
    const snapshots = await Promise.all(processes.map((metrics) => metrics.snapshot()));
    const sent = JSON.parse(JSON.stringify(snapshots));
    expect(samples(await renderAggregate(sent))).toEqual(
      expect.arrayContaining([
        'kms_requests_total{door="okms",operation="encrypt",status="200"} 2',
        'kms_request_seconds_bucket{le="+Inf",door="okms",operation="encrypt"} 2',
        'kms_token_queue_depth{class="fast"} 7',
        'kms_audit_records_total 24',
        'kms_audit_healthy 0',
        'kms_ready 2',
      ]),
    );
  });
});
