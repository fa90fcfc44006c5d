/** Turns functions that are asked at each scrape into prom-client metrics. The names are in `metrics.ts`. */

import { Counter, Gauge } from 'prom-client';
import type { Aggregator, Registry } from 'prom-client';

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export type Samples = () => readonly Sample[];

export interface ReadingMetric {
  readonly name: string;
  readonly help: string;
  readonly labelNames?: readonly string[];
  /** How the supervisor joins the values of several processes; by default their sum. */
  readonly aggregator?: Aggregator;
  /** Absent: the process does not have the metric. */
  readonly samples: Samples | undefined;
}

/** A value that rises and falls. */
export function addGauge(registry: Registry, metric: ReadingMetric): void {
  const { name, help, labelNames = [], aggregator = 'sum', samples } = metric;
  if (samples === undefined) return;
  new Gauge({
    ...{ name, help, labelNames, aggregator, registers: [registry] },
    collect() {
      this.reset();
      for (const { labels, value } of samples()) this.set(labels, value);
    },
  });
}

/** A total that somebody else counts. */
export function addCounter(registry: Registry, metric: ReadingMetric): void {
  const { name, help, labelNames = [], aggregator = 'sum', samples } = metric;
  if (samples === undefined) return;
  new Counter({
    ...{ name, help, labelNames, aggregator, registers: [registry] },
    collect() {
      this.reset();
      for (const { labels, value } of samples()) this.inc(labels, value);
    },
  });
}

export function one(read: (() => number) | undefined): Samples | undefined {
  return read && (() => [{ labels: {}, value: read() }]);
}

/** 1 for true, 0 for false. */
export function flag(read: (() => boolean) | undefined): Samples | undefined {
  return read && one(() => (read() ? 1 : 0));
}

/** One sample per member, its name in `label`. */
export function by(label: string, read: (() => Readonly<Record<string, number>>) | undefined): Samples | undefined {
  return read && (() => Object.entries(read()).map(([name, value]) => ({ labels: { [label]: name }, value })));
}
