"""PyPI pubnub 10.8, unmodified: origin and TLS are options of PNConfiguration."""

import base64
import json
import os
import queue

from Crypto.Cipher import AES
from Crypto.Util.Padding import unpad
from pubnub.callbacks import SubscribeCallback
from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub import PubNub

from sandbox import DEADLINE, ORIGIN, PRESENCE, SMS, call, check, login, state, trigger, until


class Listener(SubscribeCallback):
    def __init__(self):
        self.messages = queue.Queue()

    def message(self, pubnub, message):
        self.messages.put(message.message)

    def status(self, pubnub, status):
        pass

    def presence(self, pubnub, presence):
        pass


def decrypt(info, text):
    key = base64.b64decode(info["deliveryMode"]["encryptionKey"])
    plain = unpad(AES.new(key, AES.MODE_ECB).decrypt(base64.b64decode(text)), 16)
    return json.loads(plain)


def main():
    token = login()
    delivery = {"transportType": "PubNub", "encryption": True}
    info = call("POST", "/restapi/v1.0/subscription", {"eventFilters": [PRESENCE, SMS], "deliveryMode": delivery}, token)

    config = PNConfiguration()
    config.subscribe_key = info["deliveryMode"]["subscriberKey"]
    config.user_id = "interop-python"
    config.origin = ORIGIN
    config.ssl = False
    client = PubNub(config)
    listener = Listener()
    client.add_listener(listener)
    client.subscribe().channels(info["deliveryMode"]["address"]).execute()
    until("the poll", lambda: state()["gauges"]["open_polls"] == 1)

    def receive(uuids):
        return [decrypt(info, listener.messages.get(timeout=DEADLINE))["uuid"] for _ in uuids] == uuids

    check("a presence event", receive(trigger("presence")))
    check("a text message", receive(trigger("inbound_sms", text="h\u00e9llo \u2603")))
    check("a burst, in order", receive(trigger("presence", count=40)))
    renewed = call("POST", f"/restapi/v1.0/subscription/{info['id']}/renew", token=token)
    check("renewed", renewed["expiresIn"] == 899)
    call("POST", "/_sandbox/faults", {"target": {"operation": "poll"}, "fault": {"kind": "reset_mid_body"}})
    check("after a reset in mid-body", receive(trigger("presence", count=3)))
    client.unsubscribe().channels(info["deliveryMode"]["address"]).execute()
    call("DELETE", f"/restapi/v1.0/subscription/{info['id']}", token=token)
    until("the end of the poll", lambda: state()["gauges"]["open_polls"] == 0)
    check("deleted", state()["subscriptions"] == [] and listener.messages.empty())


main()
print("done", flush=True)
# The client's threads are no daemons.
os._exit(0)
