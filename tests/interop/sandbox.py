"""The sandbox as a client's script sees it: REST calls of its own, and control."""

import base64
import json
import os
import time
import urllib.parse
import urllib.request

BASE = os.environ["RC_SERVER_URL"]
ORIGIN = os.environ["RC_PUBNUB_ORIGIN"].removeprefix("http://")
CLIENT_ID = os.environ["RC_APP_CLIENT_ID"]
CLIENT_SECRET = os.environ["RC_APP_CLIENT_SECRET"]
JWT = os.environ["RC_USER_JWT"]
CONTACT_CENTER = json.loads(os.environ["RC_CONTACT_CENTER"])
PRESENCE = "/restapi/v1.0/account/~/extension/~/presence"
SMS = "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS"
DEADLINE = 30

# Nothing here may go by a proxy, whatever the client under test was told.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(method, path, body=None, token=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data=data, method=method)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", "Bearer " + token)
    with _opener.open(request, timeout=DEADLINE) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def login():
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": JWT}
    request = urllib.request.Request(BASE + "/restapi/oauth/token", data=urllib.parse.urlencode(form).encode())
    basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
    request.add_header("Authorization", "Basic " + basic)
    with _opener.open(request, timeout=DEADLINE) as answer:
        return json.loads(answer.read())["access_token"]


def trigger(fixture, **fields):
    return call("POST", "/_sandbox/trigger", {"fixture": fixture, **fields})["uuids"]


def state():
    return call("GET", "/_sandbox/state")


def until(what, reached):
    """Asks again until it is so; the sandbox's state can only be asked for."""
    end = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < end, "did not come: " + what
        time.sleep(0.02)


def check(what, so):
    assert so, what
    print("checked:", what, flush=True)
