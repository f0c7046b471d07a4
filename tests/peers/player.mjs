// Plays one URL in Chromium until enough frames are decoded, and prints what was seen as one line of JSON.
// usage: node player.mjs mpegts.js|hls.js|native|page URL FRAMES SECONDS
//
// `page` opens URL, which is a page with a <video> of its own. All others play URL in a page that is served from here:
// from another port and so another origin, so that the media's server must allow it (CORS). Ends early when the player
// gives up. Packages are taken from node_modules in the working directory; nothing but URL's server is contacted.

import fs from 'node:fs';
import http from 'node:http';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [kind, url, frames, seconds] = process.argv.slice(2);
const require = createRequire(join(process.cwd(), 'from-here'));
const { chromium } = require('playwright-core');

const LIBRARIES = {
  'mpegts.js': 'node_modules/mpegts.js/dist/mpegts.js',
  'hls.js': 'node_modules/hls.js/dist/hls.min.js',
};
const LOOK_EVERY = 50; // milliseconds

const server = http.createServer((request, response) => {
  if (request.url === '/library.js') {
    response.setHeader('Content-Type', 'text/javascript');
    response.end(fs.readFileSync(LIBRARIES[kind]));
  } else if (request.url === '/') {
    const library = kind in LIBRARIES ? '<script src="/library.js"></script>' : '';
    response.setHeader('Content-Type', 'text/html');
    response.end(`<!doctype html><link rel="icon" href="data:,">${library}<video muted autoplay playsinline></video>`);
  } else {
    response.writeHead(404).end();
  }
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  chromiumSandbox: false,
  args: ['--disable-gpu', '--autoplay-policy=no-user-gesture-required'],
});
try {
  const page = await browser.newPage();
  const seen = { kind, url, console: [] };
  page.on('console', (message) => message.type() === 'error' && seen.console.push(message.text()));
  page.on('pageerror', (error) => seen.console.push(String(error)));
  await page.addInitScript(watch);
  await page.goto(kind === 'page' ? url : `http://127.0.0.1:${server.address().port}/`);
  if (kind !== 'page') await page.evaluate(play, { kind, url });
  const enough = () => page.waitForFunction(
    (frames) => window.harness.gaveUp() || window.harness.look().frames >= frames,
    Number(frames),
    { polling: LOOK_EVERY, timeout: seconds * 1000 },
  );
  const timedOut = await enough().then(() => false, (error) => {
    if (error.name !== 'TimeoutError') throw error;
    return true;
  });
  console.log(JSON.stringify({ ...seen, ...(await page.evaluate(() => window.harness.look())), timedOut }));
} finally {
  await browser.close();
  server.close();
}

// In the page, before its own scripts: notes the first frame, and how its player fares.
function watch() {
  const begin = performance.now();
  const errors = [];
  let firstFrame = null;
  const complain = (fatal, ...words) => {
    errors.push({ fatal, text: words.filter((word) => word !== undefined).join(' ') });
  };
  const gaveUp = () => errors.some(({ fatal }) => fatal);
  const look = () => {
    const video = document.querySelector('video');
    const quality = video.getVideoPlaybackQuality();
    return {
      errors,
      firstFrame,
      frames: quality.totalVideoFrames,
      dropped: quality.droppedVideoFrames,
      width: video.videoWidth,
      height: video.videoHeight,
      position: video.currentTime,
      audioBytes: video.webkitAudioDecodedByteCount,
    };
  };
  window.harness = { complain, gaveUp, look };
  document.addEventListener('DOMContentLoaded', () => {
    const video = document.querySelector('video');
    video.requestVideoFrameCallback(() => (firstFrame = Math.round(performance.now() - begin)));
    // The built-in page says in words that it has failed.
    const status = document.querySelector('[role=status]');
    const listen = () => status?.dataset.state === 'failed' && complain(true, status.textContent);
    if (status) new MutationObserver(listen).observe(status, { childList: true, attributes: true });
    listen();
  });
}

// In the page that is served from here.
function play({ kind, url }) {
  const video = document.querySelector('video');
  const { complain } = window.harness;
  if (kind === 'native') {
    video.crossOrigin = 'anonymous';
    video.addEventListener('error', () => complain(true, 'MediaError', video.error.code, video.error.message));
    video.src = url;
  } else if (kind === 'hls.js') {
    const player = new Hls();
    player.on(Hls.Events.ERROR, (_, { fatal, type, details, response }) => {
      complain(fatal, type, details, response?.code);
    });
    player.loadSource(url);
    player.attachMedia(video);
  } else {
    const type = new URL(url).pathname.endsWith('.ts') ? 'mpegts' : 'flv';
    const player = mpegts.createPlayer({ type, isLive: true, url }, { enableStashBuffer: false });
    player.on(mpegts.Events.ERROR, (type, detail, info) => complain(true, type, detail, info?.code));
    player.attachMediaElement(video);
    player.load();
  }
}
