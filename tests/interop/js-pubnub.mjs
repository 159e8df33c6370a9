// npm pubnub 11, unmodified: origin and TLS are options of its constructor. Runs
// with the subscription manager and with the event engine.

import { createDecipheriv } from 'node:crypto';
import PubNub from 'pubnub';
import { Inbox, call, check, login, origin, presence, same, sms, state, trigger, until } from './sandbox.mjs';

function decrypt(info, text) {
  const key = Buffer.from(info.deliveryMode.encryptionKey, 'base64');
  const cipher = createDecipheriv('aes-128-ecb', key, null);
  return JSON.parse(Buffer.concat([cipher.update(Buffer.from(text, 'base64')), cipher.final()]).toString());
}

async function receive(token, enableEventEngine) {
  const label = enableEventEngine ? 'event engine' : 'subscription manager';
  const info = await call(
    'POST',
    '/restapi/v1.0/subscription',
    { eventFilters: [presence, sms], deliveryMode: { transportType: 'PubNub', encryption: true } },
    token,
  );
  const client = new PubNub({
    subscribeKey: info.deliveryMode.subscriberKey,
    userId: 'interop-js',
    origin,
    ssl: false,
    enableEventEngine,
    restore: true,
    retryConfiguration: PubNub.LinearRetryPolicy({ delay: 2, maximumRetry: 5 }),
  });
  const inbox = new Inbox();
  client.addListener({ message: ({ message }) => inbox.push(decrypt(info, message).uuid) });
  client.subscribe({ channels: [info.deliveryMode.address] });
  await until('the poll', async () => (await state()).gauges.open_polls === 1);
  const arrives = async (uuids) => same(await inbox.take(uuids.length), uuids);

  check(`${label}: a presence event`, await arrives(await trigger('presence')));
  check(`${label}: a text message`, await arrives(await trigger('inbound_sms', { text: 'h\u00e9llo \u2603' })));
  check(`${label}: a burst, in order`, await arrives(await trigger('presence', { count: 40 })));
  const renewed = await call('POST', `/restapi/v1.0/subscription/${info.id}/renew`, undefined, token);
  check(`${label}: renewed`, renewed.expiresIn === 899);
  await call('POST', '/_sandbox/faults', {
    target: { operation: 'poll' },
    fault: { kind: 'status', status: 503, after_effect: true },
  });
  check(`${label}: after a 503 in place of an answer`, await arrives(await trigger('presence', { count: 3 })));
  client.unsubscribe({ channels: [info.deliveryMode.address] });
  await call('DELETE', `/restapi/v1.0/subscription/${info.id}`, undefined, token);
  await until('the end of the poll', async () => (await state()).gauges.open_polls === 0);
  check(`${label}: deleted`, (await state()).subscriptions.length === 0 && inbox.size === 0);
  client.destroy?.();
}

const token = await login();
await receive(token, false);
await receive(token, true);
console.log('done');
process.exit(0);
