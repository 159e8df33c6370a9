"""PyPI tap-nice-incontact 0.3.1, unmodified: its client logs in with an access key, and
makes the calls of an agent session.

Its hosts are fixed, so a proxy here (tls_front.py) answers for them.
"""

import os
from datetime import datetime
from urllib.parse import quote

import tls_front
from sandbox import CONTACT_CENTER, call, check

AUTH, API = "na1.nice-incontact.com", "api-c99.nice-incontact.com"
target = CONTACT_CENTER["url"].removeprefix("http://")
front = tls_front.start([AUTH, API], target, os.path.join(os.environ["INTEROP_CACHE"], "tls"))
os.environ.update(HTTPS_PROXY=front.proxy, REQUESTS_CA_BUNDLE=front.certificate)

from tap_nice_incontact.client import NiceInContact4xxException, NiceInContactClient  # noqa: E402

client = NiceInContactClient(
    api_key=CONTACT_CENTER["access_key_id"],
    api_secret=CONTACT_CENTER["access_key_secret"],
    api_cluster="c99",
    api_version="23.0",
    auth_domain="na1",
    user_agent="interop",
)


def poll(session, timeout=1):
    answer = client.get(f"agent-sessions/{quote(session, safe='')}/get-next-event", params={"timeout": timeout})
    return answer["sessionId"], [event.get("Type") or event["eventName"] for event in answer["events"]]


# Its bodies are forms.
session = client._make_request("POST", "agent-sessions", data={"stationPhoneNumber": "+12055550100"})["sessionId"]
first = session
session, events = poll(session)
check("the first batch", events == ["AgentSessionStart", "AgentState", "UpdateIndicators"])

contact = call("POST", "/_sandbox/agents/call", {"from": "+12055550143"})["contact"]
session, events = poll(session)
check("a call", events == ["AgentState", "AgentLeg", "CallContactEvent", "PopURL"])

call("POST", "/_sandbox/agents/tokens", {"action": "expire"})
call("POST", "/_sandbox/agents/step", {"contact": contact, "step": "answer"})
session, events = poll(session)
check("after an expired token", events == ["AgentLeg", "CallContactEvent"])

client.refresh_expires_at = datetime.min
call("POST", "/_sandbox/agents/events", {"events": [{"type": "CustomEvent", "eventName": "order", "data": "7"}]})
session, events = poll(session)
check("a custom event, with a token that was refreshed", events == ["order"])

_, events = poll(first)
check("an old id is a snapshot", events == ["AgentSessionStart", "AgentState", "AgentLeg", "CallContactEvent"])

try:
    # It tries the same again a few times; once is enough here.
    NiceInContactClient._make_request.__wrapped__(client, "GET", "agent-sessions/nobody/get-next-event", params={"timeout": 0})
    check("an unknown id is refused", False)
except NiceInContact4xxException as error:
    check("the header says why", error.status_header == "InvalidAgentSession")

seen = call("GET", "/_sandbox/agents")["sessions"][0]
check("one poll at a time", seen["overlaps"] == 0 and seen["stale_polls"] == 1)
