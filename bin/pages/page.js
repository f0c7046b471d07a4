// What the pages share.

// What the server's refusals mean to somebody who watches.
const REFUSALS = {
  400: 'the stream’s name is not a good one',
  401: 'the stream’s server wants to know who asks',
  403: 'the stream’s server refuses',
  404: 'nobody publishes this stream, or its server does not offer it in this form',
  500: 'the stream’s server has a problem of its own',
  502: 'the stream’s server cannot be reached',
  503: 'no server for streams is there',
  504: 'the stream’s server does not answer in time',
};

export const $ = (id) => document.getElementById(id);

export function refused(status) {
  return `${status}, ${REFUSALS[status] ?? 'says the server'}`;
}

export function show(state, message) {
  $('status').dataset.state = state;
  $('status').textContent = message;
}

// `app/stream?query`, also when pasted as a whole URL of any kind.
export function split(text) {
  const [, path, query] = text.trim().replace(/^\w+:\/\/[^/]*/, '').match(/^\/*([^?#]*)(\?[^#]*)?/);
  return { path, query: query ?? '' };
}

export function isStream(path) {
  return /^[^/].*\/[^/]+$/.test(path);
}
