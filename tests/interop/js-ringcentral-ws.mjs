// npm @ringcentral/sdk and @ringcentral/subscriptions 5.0, unmodified.

import rcsdk from '@ringcentral/sdk';
import rcsubscriptions from '@ringcentral/subscriptions';
import { Inbox, base, check, clientId, clientSecret, jwt, presence, same, state, trigger, until } from './sandbox.mjs';

const sdk = new rcsdk.SDK({ server: base, clientId, clientSecret });
const platform = sdk.platform();
await platform.login({ jwt });
check('logged in', await platform.loggedIn());
const subscriptions = new rcsubscriptions.Subscriptions({ sdk });
const subscription = subscriptions.createSubscription();
const inbox = new Inbox();
subscription.on(subscription.events.notification, (event) => inbox.push(event.uuid));
await subscription.setEventFilters([presence]).register();
await until('the subscription', async () => (await state()).subscriptions[0]?.connected === true);
const uuids = await trigger('presence', { count: 20 });
check('events', same(await inbox.take(20), uuids));
process.exit(0);
