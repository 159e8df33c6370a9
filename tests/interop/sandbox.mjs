// The sandbox as a client's script sees it: REST calls of its own, and control.

export const base = process.env.RC_SERVER_URL;
export const origin = process.env.RC_PUBNUB_ORIGIN.replace('http://', '');
export const clientId = process.env.RC_APP_CLIENT_ID;
export const clientSecret = process.env.RC_APP_CLIENT_SECRET;
export const jwt = process.env.RC_USER_JWT;
export const presence = '/restapi/v1.0/account/~/extension/~/presence';
export const sms = '/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS';
const deadline = 30_000;

export async function call(method, path, body, token) {
  const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

export async function login() {
  const body = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
    assertion: jwt,
  });
  const authorization = `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`;
  const answer = await fetch(`${base}/restapi/oauth/token`, { method: 'POST', headers: { authorization }, body });
  return (await answer.json()).access_token;
}

export const trigger = async (fixture, fields) =>
  (await call('POST', '/_sandbox/trigger', { fixture, ...fields })).uuids;

export const state = () => call('GET', '/_sandbox/state');

/** Asks again until it is so; the sandbox's state can only be asked for. */
export async function until(what, reached) {
  const end = Date.now() + deadline;
  while (!(await reached())) {
    if (Date.now() > end) throw new Error(`did not come: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export function check(what, so) {
  if (!so) throw new Error(`not so: ${what}`);
  console.log('checked:', what);
}

/** Messages in the order they came; `take(n)` waits for n of them. */
export class Inbox {
  #messages = [];
  #wake = () => {};
  push(message) {
    this.#messages.push(message);
    this.#wake();
  }
  get size() {
    return this.#messages.length;
  }
  async take(count) {
    let late;
    const timer = new Promise((_, reject) => {
      late = setTimeout(() => reject(new Error(`${this.size} of ${count} messages came`)), deadline);
    });
    while (this.size < count) {
      await Promise.race([timer, new Promise((resolve) => (this.#wake = resolve))]);
    }
    clearTimeout(late);
    return this.#messages.splice(0, count);
  }
}

export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
