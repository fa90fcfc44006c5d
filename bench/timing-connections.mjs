// Ten thousand idle connections and a thousand that dribble, against a limit; and a healthy client beside them.

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { Client } from 'undici';
import { quantile } from './timing-installation.mjs';

const IDLE = 10_000;
const DRIBBLING = 1000;
/** Handshakes under way. */
const AT_ONCE = 64;
const KIB_MAX = 64;
const LEFT_MIB_MAX = 100;
const P99_MS_MAX = 1000;
const PING_MS = 20;
const REST_MS = 60_000;
/** The limit is the default: flat means that what comes on top of it costs nothing. */
const FLAT_MIB_MAX = 32;

export async function connections({ port, pid, tls, stop }) {
  const healthy = new Client(`https://localhost:${port}`, { connect: tls });
  await ping(healthy);
  await sleep(3000);
  const before = memory(pid);
  const times = [];
  const state = { over: false };
  const pinging = (async () => {
    while (!state.over) {
      times.push(await ping(healthy));
      await sleep(PING_MS);
    }
  })();
  const sockets = [];
  let [peak, full] = [before, 0];
  for (let tried = 0; tried < IDLE; tried += AT_ONCE) {
    const opened = await Promise.all(Array.from({ length: AT_ONCE }, () => open(port, tls.ca)));
    sockets.push(...opened.filter((socket) => socket !== undefined));
    if (full === 0 && opened.every((socket) => socket === undefined)) full = memory(pid);
    peak = Math.max(peak, memory(pid));
  }
  const held = sockets.filter(({ destroyed }) => !destroyed).length;
  const atLimit = memory(pid);
  const perConnection = (peak - before) / 1024 / Math.max(1, Math.max(held, 1));
  for (const socket of sockets.slice(0, DRIBBLING)) dribble(socket);
  await sleep(5000);
  const p99 = quantile(times, 0.99);
  for (const socket of sockets) socket.destroy();
  await sleep(REST_MS);
  state.over = true;
  await pinging;
  const left = (memory(pid) - before) / 1048576;
  const growth = full === 0 ? 0 : (atLimit - full) / 1048576;
  const lines = [
    [`S-17 ${IDLE} connections tried, ${held} held: ${perConnection.toFixed(1)} KiB each at the peak (aim ${KIB_MAX})`, perConnection <= KIB_MAX],
    [`S-17 growth after the limit was reached: ${growth.toFixed(1)} MiB (aim ${FLAT_MIB_MAX})`, growth <= FLAT_MIB_MAX],
    [`S-17 growth ${REST_MS / 1000} s after they left: ${left.toFixed(1)} MiB (aim ${LEFT_MIB_MAX})`, left <= LEFT_MIB_MAX],
    [`S-17 healthy client meanwhile: p50 ${quantile(times, 0.5).toFixed(1)} ms, p99 ${p99.toFixed(1)} ms (aim ${P99_MS_MAX}), worst ${Math.max(...times).toFixed(0)} ms, ${times.length} calls`, p99 <= P99_MS_MAX],
  ];
  for (const [line, ok] of lines) console.log(`${line}: ${ok ? 'ok' : 'NOT MET'}`);
  await healthy.destroy();
  await stop();
  return lines.map(([, ok]) => ({ ok }));
}

/** Milliseconds. */
async function ping(client) {
  const began = performance.now();
  const answer = await client.request({ method: 'GET', path: '/v1/servicekey?max=1' });
  await answer.body.text();
  if (answer.statusCode !== 200) throw new Error(`healthy client: ${answer.statusCode}`);
  return performance.now() - began;
}

/** One that has made a request and is kept: one that never made any is closed after ten seconds. @returns undefined when it was refused */
function open(port, ca) {
  return new Promise((done) => {
    const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', ca });
    socket.once('secureConnect', () => { socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n'); });
    socket.once('data', () => { done(socket); });
    socket.once('close', () => { done(undefined); });
    socket.on('error', () => undefined);
  });
}

function dribble(socket) {
  const timer = setInterval(() => { if (socket.destroyed) clearInterval(timer); else socket.write('G'); }, 500);
  socket.once('close', () => { clearInterval(timer); });
}

/** Bytes of the process and its children. */
function memory(pid) {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter((text) => text !== '');
  return [pid, ...children].reduce((sum, of) => sum + rss(of), 0);
}

function rss(pid) {
  if (!readdirSync('/proc').includes(String(pid))) return 0;
  const [, kib = '0'] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) * 1024;
}
