/** Prometheus metrics of all processes together, plain HTTP on loopback. */

import { createServer, type Server } from 'node:http';
import { createMetrics, renderAggregate } from '../telemetry/metrics.ts';
import type { Supervisor } from './supervisor.ts';

/** A taken port is no reason not to serve keys: it is logged and metrics are missing. */
export function serveMetrics(supervisor: Supervisor, port: number, failed: (error: Error) => void): Server {
  const own = createMetrics({ processRestarts: () => supervisor.restarts() });
  const server = createServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    Promise.all([supervisor.metrics(), own.snapshot()])
      .then(([processes, mine]) => renderAggregate([...processes, mine]))
      .then((text) => response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' }).end(text))
      .catch(() => response.writeHead(500).end());
  });
  server.on('error', failed);
  return server.listen(port, '127.0.0.1');
}
