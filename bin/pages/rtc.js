// The WebRTC pages: publish by WHIP (RFC 9725) or play by WHEP. Signalling goes to this host's HTTP API, media to wherever
// the answer's candidates lead.

import { $, isStream, refused, show, split } from './page.js';

const PUBLISHES = document.body.dataset.role === 'whip';

// What to do about a device that cannot be had.
const DENIALS = {
  NotAllowedError: 'the browser is not allowed to take it',
  NotFoundError: 'there is no camera or microphone',
  NotReadableError: 'another program has the camera or the microphone',
};

const STATISTICS_EVERY = 500; // milliseconds
// How long candidates are looked for. Those of this machine are there at once.
const GATHERING = 1000; // milliseconds

const video = $('video');
const form = $('form');

// What is published or played: the peer connection, the resource to delete, the media to stop.
let session = null;

form.addEventListener('submit', (event) => {
  event.preventDefault();
  start(form.stream.value, event.submitter?.value ?? 'camera');
});
$('stop').addEventListener('click', () => stop('idle', 'Stopped.'));
addEventListener('pagehide', () => stop('idle', ''));

async function start(text, source) {
  await stop('idle', '');
  const { path, query } = split(text);
  if (!isStream(path)) return show('failed', 'A stream is named by its app and its name: live/livestream');
  form.stream.value = path + query;
  const here = new URL(location.href);
  here.search = new URLSearchParams({ stream: form.stream.value, api: form.api.value, ...(PUBLISHES && { source }) });
  history.replaceState(null, '', here);
  $('other').search = new URLSearchParams({ stream: form.stream.value, api: form.api.value });

  const mine = { name: path, peer: new RTCPeerConnection(), media: new MediaStream(), resource: null };
  session = mine;
  $('stop').disabled = false;
  show('loading', PUBLISHES ? `Asks for the ${source}…` : `Asks for ${path}…`);
  try {
    if (PUBLISHES) await capture(mine, source);
    else receive(mine);
    if (session === mine) await negotiate(mine, endpoint(path, query));
  } catch (error) {
    if (session === mine) fail(error.message);
    return;
  }
  if (session !== mine) return;
  mine.timer = setInterval(statistics(mine), STATISTICS_EVERY);
  $('stats').hidden = false;
}

// Ends what is there, here and at the server.
async function stop(state, message) {
  const ended = session;
  session = null;
  $('stop').disabled = true;
  $('stats').hidden = true;
  show(state, message);
  if (!ended) return;
  clearInterval(ended.timer);
  ended.peer.close();
  ended.media.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  await leave(ended);
}

// Also when the page goes; a server that is gone need not be told.
async function leave({ resource }) {
  if (resource) await fetch(resource, { method: 'DELETE', keepalive: true }).catch(() => {});
}

function fail(message) {
  stop('failed', `Cannot ${PUBLISHES ? 'publish' : 'play'}: ${message}.`);
}

async function capture(mine, source) {
  if (!navigator.mediaDevices) throw new Error('browsers give cameras and screens to pages of https or localhost only');
  try {
    const take = async (constraints) => {
      const media = await navigator.mediaDevices.getUserMedia(constraints);
      media.getTracks().forEach((track) => keep(mine, track));
    };
    if (source === 'screen') {
      const screen = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: false });
      screen.getTracks().forEach((track) => keep(mine, track));
      await take({ audio: true });
    } else {
      await take({ audio: true, video: { width: { ideal: 1280 }, height: { ideal: 720 } } });
    }
  } catch (error) {
    throw new Error(DENIALS[error.name] ?? error.message);
  }
  video.srcObject = mine.media;
}

function keep(mine, track) {
  // The session may be over by the time the device is there.
  if (session !== mine) return track.stop();
  mine.media.addTrack(track);
  mine.peer.addTransceiver(track, { direction: 'sendonly', streams: [mine.media] });
  track.addEventListener('ended', () => session === mine && stop('ended', 'The camera or screen has ended.'));
}

function receive(mine) {
  for (const kind of ['audio', 'video']) mine.peer.addTransceiver(kind, { direction: 'recvonly' });
  mine.peer.addEventListener('track', ({ track }) => mine.media.addTrack(track));
  video.srcObject = mine.media;
}

async function negotiate(mine, url) {
  const { peer } = mine;
  peer.addEventListener('connectionstatechange', () => session === mine && changed(mine));
  await peer.setLocalDescription();
  await gathered(peer);
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: peer.localDescription.sdp,
  }).catch(() => {
    throw new Error(`no answer from ${url.host}`);
  });
  const location = response.headers.get('Location');
  if (response.ok && location) mine.resource = new URL(location, url);
  if (session !== mine) return leave(mine);
  if (!response.ok) throw new Error(refused(response.status));
  await peer.setRemoteDescription({ type: 'answer', sdp: await response.text() });
}

// Waits until the offer has its candidates: not every server is told more later.
function gathered(peer) {
  return new Promise((done) => {
    const look = () => peer.iceGatheringState === 'complete' && done();
    peer.addEventListener('icegatheringstatechange', look);
    setTimeout(done, GATHERING);
    look();
  });
}

function changed({ name, peer }) {
  const does = PUBLISHES ? 'Publishes' : 'Plays';
  switch (peer.connectionState) {
    case 'connecting': return show('loading', 'Looks for a way for the media…');
    case 'connected': return show('playing', `${does} ${name}.`);
    case 'disconnected': return show('waiting', 'Nothing is heard of the server…');
    case 'failed': return fail('no media gets through, or the server is gone');
    case 'closed': return stop('ended', 'The server has ended it.');
  }
}

function endpoint(path, query) {
  const url = new URL(`/rtc/v1/${document.body.dataset.role}/`, location.href);
  // `8443`, or `other.example:8443`.
  const api = form.api.value.trim();
  if (api.includes(':')) url.host = api;
  else url.port = api;
  const slash = path.lastIndexOf('/');
  url.search = new URLSearchParams({ app: path.slice(0, slash), stream: path.slice(slash + 1) });
  if (query) url.search += `&${query.slice(1)}`;
  return url;
}

// Shows what has happened since it was called last.
function statistics(mine) {
  let before = null;
  return async () => {
    const report = await mine.peer.getStats();
    if (session !== mine) return;
    const all = [...report.values()];
    const flows = all.filter(({ type }) => type === (PUBLISHES ? 'outbound-rtp' : 'inbound-rtp'));
    const sum = (field) => flows.reduce((total, flow) => total + (flow[field] ?? 0), 0);
    const picture = flows.find(({ kind }) => kind === 'video') ?? {};
    const frames = (PUBLISHES ? picture.framesEncoded : picture.framesDecoded) ?? 0;
    const lost = PUBLISHES ? all.filter(({ type }) => type === 'remote-inbound-rtp') : flows;
    const now = { at: performance.now(), frames, bytes: sum(PUBLISHES ? 'bytesSent' : 'bytesReceived') };
    const rate = (field) => (before ? ((now[field] - before[field]) * 1000) / (now.at - before.at) : 0);
    const codecs = flows.map(({ codecId }) => report.get(codecId)?.mimeType.split('/')[1]);
    const pair = all.find(({ type, state, nominated }) => type === 'candidate-pair' && state === 'succeeded' && nominated);
    $('picture').textContent = picture.frameWidth ? `${picture.frameWidth} × ${picture.frameHeight}` : '–';
    $('frames').textContent = `${rate('frames').toFixed(0)} per second, ${frames} in all`;
    $('bitrate').textContent = `${((rate('bytes') * 8) / 1000).toFixed(0)} kbit/s`;
    $('lost').textContent = `${lost.reduce((total, flow) => total + (flow.packetsLost ?? 0), 0)} packets`;
    $('codecs').textContent = codecs.filter(Boolean).join(', ') || '–';
    $('path').textContent = pair ? way(report.get(pair.localCandidateId), report.get(pair.remoteCandidateId), pair) : '–';
    before = now;
  };
}

function way(local, remote, { currentRoundTripTime: time }) {
  const address = (candidate) => {
    const host = candidate?.address ?? 'hidden';
    return `${host.includes(':') ? `[${host}]` : host}:${candidate?.port ?? '?'}`;
  };
  const there = time === undefined ? '' : `, ${(time * 1000).toFixed(1)} ms there and back`;
  return `${address(local)} → ${address(remote)}${there}`;
}

const asked = new URLSearchParams(location.search);
if (asked.get('api')) form.api.value = asked.get('api');
if (asked.get('stream')) start(asked.get('stream'), asked.get('source') ?? 'camera');
