// npm @rc-ex/core and @rc-ex/ws 1.4.2, unmodified. It uses a socket token for
// several sockets, against the guide, so the sandbox is told to let it.

import RingCentral from '@rc-ex/core';
import WebSocketExtension from '@rc-ex/ws';
import { Inbox, base, call, check, clientId, clientSecret, jwt, same, sms, state, trigger, until } from './sandbox.mjs';

await call('PATCH', '/_sandbox/behavior', { gateway: { wstoken_reuse: true } });
const rc = new RingCentral({ server: base, clientId, clientSecret });
await rc.authorize({ jwt });
const extension = new WebSocketExtension({
  restOverWebSocket: true,
  autoRecover: { enabled: true, checkInterval: () => 100, pingServerInterval: 200 },
});
await rc.installExtension(extension);
check('connected', (await state()).gauges.open_sockets === 1);

const inbox = new Inbox();
const filters = [sms, '/restapi/v1.0/account/~/extension/~/presence'];
const subscription = await extension.subscribe(filters, (event) => inbox.push(event.uuid));
check('subscribed', (await state()).subscriptions[0].transport === 'WebSocket');
const arrives = async (uuids) => same(await inbox.take(uuids.length), uuids);
check('a text message', await arrives(await trigger('inbound_sms', { text: 'h\u00e9llo' })));
check('many events', await arrives(await trigger('presence', { count: 50 })));
const answer = await rc.get('/restapi/v1.0/account/~/extension/~');
check('REST over the socket', String(answer.data.id).length > 0);
const records = (await call('GET', '/_sandbox/requests?target=gateway')).records;
check('which the gateway saw', records.some((r) => r.operation === 'other_api' && r.status === 200));
await until('a heartbeat', async () =>
  (await call('GET', '/_sandbox/requests?target=gateway')).records.some((r) => r.operation === 'socket_heartbeat'));

// It listens to a recovered socket only after it has read ConnectionDetails, and
// loses what comes in the same piece; the replay is delayed for it.
await call('PATCH', '/_sandbox/behavior', { gateway: { replay_delay: 300 } });
const { id } = subscription.subscriptionInfo;
const recovered = new Promise((resolve) => extension.eventEmitter.once('autoRecoverSuccess', resolve));
await call('POST', '/_sandbox/connections/gateway', { action: 'reset' });
const missed = await trigger('presence', { count: 3 });
await recovered;
check('recovered what it missed', await arrives(missed));
check('with the same subscription', (await state()).subscriptions[0].id === id);
await extension.revoke();
check('deleted', (await state()).subscriptions.length === 0);
await until('the end of the socket', async () => (await state()).gauges.open_sockets === 0);
await rc.revoke();
process.exit(0);
