// npm @ringcentral/sdk and @ringcentral/subscriptions 4.7.4 with pubnub 4.37,
// unmodified. Subscriptions takes the PubNub class to use as an option; it is
// given the published one with other defaults for origin and TLS.

import rcsdk from '@ringcentral/sdk';
import rcsubscriptions from '@ringcentral/subscriptions';
import PubNub from 'pubnub';
import { Inbox, base, call, check, clientId, clientSecret, jwt, origin, same, state, trigger, until } from './sandbox.mjs';

class PubNubOnLoopback extends PubNub {
  constructor(options) {
    super({ ...options, origin, ssl: false });
  }
}

const sdk = new rcsdk.SDK({ server: base, clientId, clientSecret });
const platform = sdk.platform();
await platform.login({ jwt });
check('logged in', await platform.loggedIn());

const subscriptions = new rcsubscriptions.Subscriptions({ sdk, PubNub: PubNubOnLoopback });
const subscription = subscriptions.createSubscription({ pollInterval: 200, renewHandicapMs: 60_000 });
const inbox = new Inbox();
subscription.on(subscription.events.notification, (message) => inbox.push(message.uuid));
await subscription
  .setEventFilters(['/restapi/v1.0/account/~/extension/~/presence', '/restapi/v1.0/account/~/extension/~/message-store'])
  .register();
check('subscribed, encrypted', subscription.subscription().deliveryMode.encryption === true);
await until('the poll', async () => (await state()).gauges.open_polls === 1);
const arrives = async (uuids) => same(await inbox.take(uuids.length), uuids);

check('a presence event', await arrives(await trigger('presence')));
check('a hint of a text message', await arrives(await trigger('inbound_sms', { text: 'h\u00e9llo' })));
await subscription.renew();
check('renewed', (await state()).subscriptions[0].renewals === 1);
check('events after the renewal', await arrives(await trigger('presence', { count: 20 })));

const { id } = subscription.subscription();
await call('POST', `/_sandbox/subscriptions/${id}/rotate`, { what: { address: true, key: true }, on_renew: true });
await subscription.renew();
await until('the poll of the new channel', async () => {
  const now = await state();
  return now.gauges.open_polls === 1 && now.subscriptions[0].renewals === 2;
});
check('events after channel and key have changed', await arrives(await trigger('presence', { count: 3 })));

// Its own timer renews as well, once the lease comes near its end.
const renewedByItself = new Promise((resolve) => subscription.on(subscription.events.automaticRenewSuccess, resolve));
await call('PATCH', '/_sandbox/behavior', { subscription_lifetime: 61_000 });
await subscription.renew();
await renewedByItself;
check('renewed by itself', (await state()).subscriptions[0].renewals >= 4);
await call('PATCH', '/_sandbox/behavior', { subscription_lifetime: 900_000 });

await platform.refresh();
check('refreshed', (await state()).gauges.sessions === 1);
await subscription.remove();
check('removed', (await state()).subscriptions.length === 0);
await until('the end of the poll', async () => (await state()).gauges.open_polls === 0);
await platform.logout();
check('logged out', (await state()).gauges.sessions === 0);
console.log('done');
process.exit(0);
