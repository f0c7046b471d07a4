// The player page: plays one stream of this server as FLV, TS or HLS. No dependency but the two players.

import { $, isStream, refused, show, split } from './page.js';

// What each type is called in a URL's path, and who plays it.
const TYPES = {
  flv: { extension: '.flv', play: playMpegts },
  ts: { extension: '.ts', play: playMpegts },
  hls: { extension: '.m3u8', play: playHls },
};

const STATISTICS_EVERY = 500; // milliseconds

const video = $('video');
const form = $('form');

// What plays: how to end it, how far behind the source it is (seconds, if known).
let session = null;

form.addEventListener('submit', (event) => {
  event.preventDefault();
  start(form.stream.value, event.submitter?.value ?? 'flv');
});
$('stop').addEventListener('click', () => stop('idle', 'Stopped.'));
for (const button of document.querySelectorAll('[data-copy]')) {
  button.addEventListener('click', () => copy(button));
}
video.addEventListener('playing', () => session && show('playing', `Plays ${session.name}.`));
video.addEventListener('waiting', () => session && show('waiting', 'Waits for media…'));
video.addEventListener('ended', () => stop('ended', 'The stream has ended.'));
video.addEventListener('error', () => {
  // The players tell their errors themselves, and better.
  if (session?.isNative) fail(video.error?.message || 'the browser cannot play it');
});

async function start(text, type) {
  stop('idle', '');
  form.stream.value = text;
  const stream = parse(text);
  if (!stream) return show('failed', 'A stream is named by its app and its name: live/livestream');
  type = stream.type ?? (type in TYPES ? type : 'flv');
  form.stream.value = stream.path + stream.query;
  for (const name of Object.keys(TYPES)) {
    $(name).value = url(stream, name);
    form.querySelector(`button[value=${name}]`).setAttribute('aria-pressed', String(name === type));
  }
  $('urls').hidden = false;
  const here = new URL(location.href);
  here.search = new URLSearchParams({ stream: form.stream.value, type });
  history.replaceState(null, '', here);

  const mine = { name: `${stream.path} as ${type.toUpperCase()}`, end() {}, latency: () => NaN, isNative: false };
  session = mine;
  mine.timer = setInterval(statistics(), STATISTICS_EVERY);
  $('stop').disabled = false;
  $('stats').hidden = false;
  show('loading', `Asks for ${mine.name}…`);
  try {
    await TYPES[type].play(mine, url(stream, type), type);
  } catch (error) {
    if (session === mine) fail(error.message);
  }
}

function stop(state, message) {
  if (session) {
    const ended = session;
    // First, so that what its player says from here on is nobody's business.
    session = null;
    clearInterval(ended.timer);
    ended.end();
    video.removeAttribute('src');
    video.load();
  }
  $('stop').disabled = true;
  $('stats').hidden = true;
  show(state, message);
}

function fail(message) {
  stop('failed', `Cannot play: ${message}.`);
}

// A stream's name, and of which type it is if it says so.
function parse(text) {
  const { path, query } = split(text);
  const known = Object.entries(TYPES).find(([, { extension }]) => path.endsWith(extension));
  const name = known ? path.slice(0, -known[1].extension.length) : path;
  return isStream(name) ? { path: name, query, type: known?.[0] } : null;
}

function url(stream, type) {
  const path = stream.path.split('/').map((part) => encodeURIComponent(decode(part))).join('/');
  return new URL(`/${path}${TYPES[type].extension}${stream.query}`, location.href).href;
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function playMpegts(mine, url, type) {
  await load('vendor/mpegts.js');
  if (session !== mine) return;
  if (!mpegts.getFeatureList().mseLivePlayback) throw new Error('this browser plays HLS only');
  mpegts.LoggingControl.enableAll = false;
  // Plays at once what has arrived, and makes good for stalls by playing a little faster.
  const player = mpegts.createPlayer(
    { type: type === 'ts' ? 'mpegts' : 'flv', isLive: true, url },
    { enableStashBuffer: false, liveSync: true, liveSyncMaxLatency: 3, liveSyncTargetLatency: 1.5, autoCleanupSourceBuffer: true },
  );
  mine.end = () => player.destroy();
  player.on(mpegts.Events.ERROR, (kind, detail, info) => {
    if (session !== mine) return;
    if (detail === mpegts.ErrorDetails.NETWORK_STATUS_CODE_INVALID) return fail(refused(info.code));
    fail(kind === mpegts.ErrorTypes.NETWORK_ERROR ? 'the connection is lost' : info?.msg ?? detail);
  });
  player.on(mpegts.Events.LOADING_COMPLETE, () => {
    if (session !== mine) return;
    // What has arrived is played to its end; then `ended` says so. Nothing comes if nothing had arrived.
    if (video.readyState === 0) fail('the stream has ended before it began');
  });
  player.attachMediaElement(video);
  player.load();
}

async function playHls(mine, url) {
  await load('vendor/hls.light.min.js');
  if (session !== mine) return;
  if (!Hls.isSupported()) {
    if (!video.canPlayType('application/vnd.apple.mpegurl')) throw new Error('this browser cannot play HLS');
    mine.isNative = true;
    video.src = url;
    return;
  }
  const player = new Hls({ lowLatencyMode: true });
  mine.end = () => player.destroy();
  mine.latency = () => player.latency;
  player.on(Hls.Events.ERROR, (_, { fatal, type, details, response, reason }) => {
    if (session !== mine || !fatal) return;
    if (response?.code >= 400) return fail(refused(response.code));
    fail(type === Hls.ErrorTypes.NETWORK_ERROR ? 'the connection is lost' : reason ?? details);
  });
  player.loadSource(url);
  player.attachMedia(video);
}

const scripts = new Map();

// A player's script is fetched when it is needed first.
function load(src) {
  if (!scripts.has(src)) {
    const script = document.createElement('script');
    script.src = src;
    const loaded = new Promise((done, failed) => {
      script.onload = done;
      script.onerror = () => {
        scripts.delete(src);
        failed(new Error(`${src} cannot be loaded`));
      };
    });
    scripts.set(src, loaded);
    document.head.append(script);
  }
  return scripts.get(src);
}

// Shows what has happened since it was called last.
function statistics() {
  let before = { at: performance.now(), frames: 0 };
  return () => {
    const quality = video.getVideoPlaybackQuality();
    const now = { at: performance.now(), frames: quality.totalVideoFrames };
    const rate = ((now.frames - before.frames) * 1000) / (now.at - before.at);
    before = now;
    const ends = video.buffered.length ? video.buffered.end(video.buffered.length - 1) : NaN;
    $('picture').textContent = video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : '–';
    $('frames').textContent = `${Math.max(0, rate).toFixed(0)} per second`;
    $('dropped').textContent = `${quality.droppedVideoFrames} of ${quality.totalVideoFrames}`;
    $('buffer').textContent = seconds(ends - video.currentTime);
    $('latency').textContent = seconds(session.latency());
  };
}

function seconds(value) {
  return Number.isFinite(value) ? `${value.toFixed(1)} s` : '–';
}

async function copy(button) {
  const field = $(button.dataset.copy);
  field.select();
  // The clipboard's own interface is there in secure contexts only.
  if (navigator.clipboard) await navigator.clipboard.writeText(field.value);
  else document.execCommand('copy');
  button.textContent = 'Copied';
  setTimeout(() => (button.textContent = 'Copy'), 1500);
}

const asked = new URLSearchParams(location.search);
if (asked.get('stream')) start(asked.get('stream'), asked.get('type') ?? 'flv');
