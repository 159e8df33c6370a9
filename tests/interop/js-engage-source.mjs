// npm ringcentral-engage-source 0.1.9, unmodified, as a source that the crawler of the
// sandbox crawls: a forum in its handler, then its own demo.

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';

const token = process.env.RINGCENTRAL_ENGAGE_DIGITAL_API_TOKEN = 'interopinteropinterop';
const { createApp } = createRequire(import.meta.url)('ringcentral-engage-source');

const user = (id, screenname, more) => ({
  id, screenname, created_at: '2026-01-01T00:00:00Z', updated_at: '2026-01-01T00:00:00Z', ...more,
});
const ana = user('ana', 'Ana');
const jane = user('jane', 'Jane', { puppetizable: true });
const messages = [];
const written = new Map();
const add = (author, body, reply) => {
  const actions = ['show', 'reply', 'delete'];
  messages.push({ id: `m-${messages.length + 1}`, thread_id: 't-1', author, body, format: 'text', actions, in_reply_to_id: reply });
  return messages.at(-1);
};
for (let number = 1; number <= 25; number += 1) add(number === 2 ? jane : ana, `Question ${number}`);

const after = (list, since, limit) => {
  const start = since ? list.findIndex(({ id }) => id === since) + 1 : 0;
  return list.slice(start, start + limit).filter(({ gone }) => !gone).reverse();
};
const find = (id) => messages.find((message) => message.id === id);
function onRequest({ action, params = {} }) {
  switch (action) {
    case 'implementation.info':
      return {
        objects: { messages: ['create', 'delete', 'list', 'reply', 'show'], threads: ['list'] },
        options: ['messages.text', 'messages.no_title', 'threads.no_content'],
      };
    case 'threads.list': return params.since_id ? [] : [{ id: 't-1', title: 'Delivery' }];
    case 'messages.list': return after(messages, params.since_id, 10);
    case 'messages.show': return find(params.id) ?? '';
    case 'messages.create':
      if (!written.has(params.content_id)) written.set(params.content_id, add(jane, params.body, params.in_reply_to_id));
      return written.get(params.content_id);
    case 'messages.delete': find(params.id).gone = true; return find(params.id);
    default: return {};
  }
}

function listen(config) {
  const app = createApp(config);
  return new Promise((resolve) => { const server = app.listen(0, '127.0.0.1', () => resolve(server)); });
}

async function crawl(server, ...args) {
  const url = `http://127.0.0.1:${server.address().port}/`;
  const env = { ...process.env, RC_DIGITAL_TOKEN: token };
  const child = spawn(process.env.DIGITAL_CRAWLER, [url, '--json', ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (data) => { text += data; });
  const code = await new Promise((resolve) => { child.on('close', resolve); });
  const lines = text.trim().split('\n').map((line) => JSON.parse(line));
  const of = (type) => lines.filter((line) => line.type === type);
  return { code, steps: of('step'), violations: of('violation'), end: of('end')[0] };
}

let failed = false;
function check(what, good, told) {
  console.error(good ? 'ok' : 'FAILED', what, good ? '' : JSON.stringify(told, null, 1));
  failed ||= !good;
}
const rules = ({ violations }) => [...new Set(violations.map(({ rule, action }) => `${rule} ${action}`))].sort();

// The package logs every request on stdout; only what is checked is of interest.
process.stdout.write = () => true;
const forum = await listen({ onRequest });
const run = await crawl(forum, '--reply', 'On its way: caf\u00e9', '--delete', '--show', 'm-1');
check('runs, a reply beyond ASCII, its deletion and an audit are clean', run.code === 0 && run.violations.length === 0, run);
check('all pages came', run.end.contents.messages === 26 && run.end.contents.threads === 1, run.end);
const asked = run.steps.filter(({ stage }) => stage === 'crawl').map(({ action }) => action);
check('in the order of a run', asked.slice(0, 3).join() === 'implementation.info,threads.list,threads.list', asked);
check('the reply was written once', messages.length === 26 && messages[25].in_reply_to_id === 'm-25', messages.at(-1));

// The package verifies a body that it has written anew, so it refuses other forms of the
// same JSON. That is its own mistake, and is found as such.
for (const [form, refused] of [['compact', false], ['ascii', true], ['html', true], ['newline', true], ['pretty', true]]) {
  const spaces = form === 'newline' || form === 'pretty';
  const form_run = await crawl(forum, '--wire', form, ...(spaces ? [] : ['--reply', '<b>caf\u00e9</b>']));
  const step = form_run.steps.find(({ action }) => action === 'messages.create');
  const good = refused
    ? (spaces ? form_run.violations.some(({ rule, message }) => rule === 'status' && message.includes('Invalid signature'))
      : step.status === 422 && step.outcome.includes('Invalid signature'))
    : form_run.code === 0;
  check(`${form} requests are ${refused ? 'refused, as is known of it' : 'taken'}`, good, form_run);
}
forum.close();

const demo = await listen({});
const demo_run = await crawl(demo, '--show', 'x');
check('its own demo runs', demo_run.code === 0 && demo_run.violations.length === 0, rules(demo_run));
demo.close();
process.exit(failed ? 1 : 0);
