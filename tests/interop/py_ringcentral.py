"""PyPI ringcentral 0.7.18 with the pubnub it asks for, unmodified.

Its subscription makes its PubNub client itself, with TLS and no way to name
another origin. So nothing is named: requests reads HTTPS_PROXY and
REQUESTS_CA_BUNDLE, as for any program behind a company's proxy, and the proxy
here (tls_front.py) answers for ps.pndsn.com.
"""

import os
import queue

import tls_front
from sandbox import BASE, CLIENT_ID, CLIENT_SECRET, DEADLINE, JWT, ORIGIN, check, state, trigger, until

front = tls_front.start(["ps.pndsn.com"], ORIGIN, os.path.join(os.environ["INTEROP_CACHE"], "tls"))
os.environ["HTTPS_PROXY"] = os.environ["https_proxy"] = front.proxy
os.environ["REQUESTS_CA_BUNDLE"] = front.certificate

from ringcentral import SDK  # noqa: E402  (after the environment is set)
from ringcentral.subscription import Events  # noqa: E402


def main():
    sdk = SDK(CLIENT_ID, CLIENT_SECRET, BASE)
    platform = sdk.platform()
    platform.login(jwt=JWT)
    check("logged in", platform.logged_in())

    subscription = sdk.create_subscription()
    messages = queue.Queue()
    subscription.on(Events.notification, messages.put)
    subscription.add_events(["/account/~/extension/~/presence", "/account/~/extension/~/message-store"])
    subscription.register()
    check("subscribed, encrypted", subscription.subscription()["deliveryMode"]["encryption"])
    until("the poll", lambda: state()["gauges"]["open_polls"] == 1)

    def receive(uuids):
        return [messages.get(timeout=DEADLINE)["uuid"] for _ in uuids] == uuids

    check("a presence event", receive(trigger("presence")))
    check("a hint of a text message", receive(trigger("inbound_sms")))
    subscription.register()
    check("renewed", state()["subscriptions"][0]["renewals"] == 1)
    check("events after the renewal", receive(trigger("presence", count=20)))
    platform.refresh()
    check("refreshed", platform.logged_in())
    subscription.remove()
    check("removed", state()["subscriptions"] == [])
    until("the end of the poll", lambda: state()["gauges"]["open_polls"] == 0)
    platform.logout()
    check("logged out", state()["gauges"]["sessions"] == 0)


main()
print("done", flush=True)
# The client's threads are no daemons.
os._exit(0)
