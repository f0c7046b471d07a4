// Publishes or plays in Chromium, with the proxy's own page, and prints what was seen as one line of JSON.
// usage: node rtc.mjs whip|whep STREAM API FRAMES SECONDS [SERVER]
//
// STREAM is app/stream?query, API the host and port that is signalled to. The page is SERVER's (http://host:port), or else
// served from here: from another port and so another origin than the API's, which must allow it (CORS). Says FLOWS when
// FRAMES are encoded or decoded. Ends by the page's Stop button, on SIGTERM or after SECONDS, and at once when the page says
// that it failed. Packages are taken from node_modules in the working directory; nothing but the given servers is contacted.

import fs from 'node:fs';
import http from 'node:http';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { extname, join } from 'node:path';

const [role, stream, api, frames, seconds, given] = process.argv.slice(2);
const require = createRequire(join(process.cwd(), 'from-here'));
const { chromium } = require('playwright-core');

const PAGES = new URL('../../bin/pages/', import.meta.url);
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const LOOK_EVERY = 100; // milliseconds
const GOODBYE = 5000; // milliseconds

const deadline = Date.now() + seconds * 1000;
let isOver = false;
process.on('SIGTERM', () => (isOver = true));

const server = http.createServer((request, response) => {
  const name = new URL(request.url, 'http://here').pathname.slice(1);
  if (!fs.readdirSync(PAGES).includes(name)) return response.writeHead(404).end();
  response.setHeader('Content-Type', TYPES[extname(name)] ?? 'application/octet-stream');
  response.end(fs.readFileSync(new URL(name, PAGES)));
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  chromiumSandbox: false,
  handleSIGTERM: false,
  args: [
    '--disable-gpu',
    '--autoplay-policy=no-user-gesture-required',
    '--use-fake-device-for-media-stream',
    '--use-fake-ui-for-media-stream',
    '--auto-select-desktop-capture-source=Entire screen',
    // On a machine without a network its candidates are those of the loopback, as addresses.
    '--allow-loopback-in-peer-connection',
    '--disable-features=WebRtcHideLocalIpsWithMdns',
  ],
});
try {
  const page = await browser.newPage();
  const seen = { role, signalled: [], deleted: [], failure: null, console: [] };
  page.on('console', (message) => message.type() === 'error' && seen.console.push(message.text()));
  page.on('pageerror', (error) => seen.console.push(String(error)));
  page.on('response', (response) => {
    const method = response.request().method();
    if (method === 'POST') seen.signalled.push(response.status());
    if (method === 'DELETE') seen.deleted.push(response.status());
  });
  await page.addInitScript(watch);
  const url = new URL(`/${role}.html`, given ?? `http://127.0.0.1:${server.address().port}`);
  url.search = new URLSearchParams({ stream, api });
  await page.goto(url.href);
  for (let flows = false; !isOver && !seen.failure && Date.now() < deadline; ) {
    Object.assign(seen, await page.evaluate(() => window.look()));
    if (!flows && seen.frames >= frames) {
      flows = true;
      console.log('FLOWS');
    }
    await new Promise((done) => setTimeout(done, LOOK_EVERY));
  }
  Object.assign(seen, await page.evaluate(() => window.look()));
  if (await page.locator('#stop').isEnabled()) {
    const goodbye = page.waitForResponse((response) => response.request().method() === 'DELETE', { timeout: GOODBYE });
    await Promise.all([goodbye.catch(() => {}), page.locator('#stop').click()]);
  }
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
  server.close();
}

// In the page, before its own scripts: keeps its peer connection, to ask it how it fares.
function watch() {
  const begin = performance.now();
  let peer = null;
  let connected = null;
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...settings) {
      super(...settings);
      peer = this;
      this.addEventListener('connectionstatechange', () => {
        if (this.connectionState === 'connected') connected ??= Math.round(performance.now() - begin);
      });
    }
  };
  window.look = async () => {
    const status = document.querySelector('[role=status]');
    const state = status?.dataset.state === 'failed' ? { failure: status.textContent } : {};
    const report = peer ? await peer.getStats() : new Map();
    const all = [...report.values()];
    const flows = all.filter(({ type }) => type === 'inbound-rtp' || type === 'outbound-rtp');
    const video = flows.find(({ kind }) => kind === 'video') ?? {};
    const sum = (...fields) => flows.reduce((total, flow) => total + fields.reduce((all, field) => all + (flow[field] ?? 0), 0), 0);
    const pair = all.find(({ type, nominated, state }) => type === 'candidate-pair' && nominated && state === 'succeeded');
    const candidate = (id) => {
      const { address, port, protocol, candidateType } = report.get(id);
      return { address: `${address.includes(':') ? `[${address}]` : address}:${port}`, protocol, type: candidateType };
    };
    return {
      ...state,
      connected,
      frames: video.framesEncoded ?? video.framesDecoded ?? 0,
      size: [video.frameWidth ?? 0, video.frameHeight ?? 0],
      packets: sum('packetsSent', 'packetsReceived'),
      lost: sum('packetsLost'),
      codecs: flows.map(({ codecId }) => report.get(codecId)?.mimeType).filter(Boolean),
      candidates: all.filter(({ type }) => type === 'remote-candidate').map(({ id }) => candidate(id)),
      remote: pair ? candidate(pair.remoteCandidateId).address : null,
      local: pair ? candidate(pair.localCandidateId).address : null,
    };
  };
}
