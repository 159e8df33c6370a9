"""PyPI ringcentral 0.9.2, unmodified.

It takes an answer for that of its subscription by the header
`WSG-SubscriptionId`, which the service has ceased to send; the sandbox is told
to send it.
"""

import asyncio
import os

from ringcentral import SDK
from ringcentral.websocket.events import WebSocketEvents

from sandbox import BASE, CLIENT_ID, CLIENT_SECRET, DEADLINE, JWT, call, check, state, trigger


async def main():
    call("PATCH", "/_sandbox/behavior", {"gateway": {"subscription_id_header": True}})
    sdk = SDK(CLIENT_ID, CLIENT_SECRET, BASE)
    sdk.platform().login(jwt=JWT)
    client = sdk.create_web_socket_client()
    created, events = asyncio.Queue(), asyncio.Queue()
    client.on(WebSocketEvents.subscriptionCreated, created.put_nowait)
    client.on(WebSocketEvents.receiveSubscriptionNotification, events.put_nowait)
    connection = asyncio.create_task(client.create_new_connection())
    await client.create_subscription(["/restapi/v1.0/account/~/extension/~/presence"])
    subscription = await asyncio.wait_for(created.get(), DEADLINE)
    check("subscribed", state()["subscriptions"][0]["connected"])

    async def receive(uuids):
        return [(await asyncio.wait_for(events.get(), DEADLINE))[1]["uuid"] for _ in uuids] == uuids

    check("events", await receive(trigger("presence", count=20)))
    await client.update_subscription(subscription, ["/restapi/v1.0/account/~/extension/~/message-store"])
    await client.send_message([{"type": "Heartbeat", "messageId": "1"}])
    while not state()["subscriptions"][0]["renewals"]:
        await asyncio.sleep(0.02)
    check("events of other filters", await receive(trigger("inbound_sms")))
    await client.close_connection()
    connection.cancel()


asyncio.run(main())
print("done", flush=True)
os._exit(0)
