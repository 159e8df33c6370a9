"""PyPI ringcentral-engage-digital-source-sdk 0.0.1, unmodified: as a source that the
crawler of the sandbox crawls, and its client of the Send API against the sandbox."""

import json
import logging
import os
import subprocess
import sys
import threading
import types

TOKEN = "interopinteropinterop"
os.environ["RINGCENTRAL_ENGAGE_DIGITAL_API_TOKEN"] = TOKEN

from werkzeug.serving import make_server  # noqa: E402
import ringcentral_engage_digital_source_sdk as sdk  # noqa: E402

FAILED = []


def user(key, name, **more):
    return {"id": key, "screenname": name, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", **more}


ANA, JANE = user("ana", "Ana"), user("jane", "Jane", puppetizable=True)
MESSAGES, WRITTEN = [], {}


def add(author, body, reply=None):
    message = {"id": f"m-{len(MESSAGES) + 1}", "thread_id": "t-1", "author": author, "body": body, "format": "text",
               "actions": ["show", "reply", "delete"], "in_reply_to_id": reply}
    MESSAGES.append(message)
    return message


for number in range(1, 26):
    add(JANE if number == 2 else ANA, f"Question {number}")


def after(since, limit):
    start = next((place + 1 for place, message in enumerate(MESSAGES) if message["id"] == since), 0)
    return [message for message in MESSAGES[start:start + limit] if "gone" not in message][::-1]


def on_request(event):
    body = event["body"]
    action, params = body["action"], body.get("params") or {}
    found = next((message for message in MESSAGES if message["id"] == params.get("id")), None)
    if action == "implementation.info":
        return {"objects": {"messages": ["create", "delete", "list", "reply", "show"], "threads": ["list"]},
                "options": ["messages.text", "messages.no_title", "threads.no_content"]}
    if action == "threads.list":
        return [] if params.get("since_id") else [{"id": "t-1", "title": "Delivery"}]
    if action == "messages.list":
        return after(params.get("since_id"), 10)
    if action == "messages.create":
        if params["content_id"] not in WRITTEN:
            WRITTEN[params["content_id"]] = add(JANE, params["body"], params["in_reply_to_id"])
        return WRITTEN[params["content_id"]]
    if action == "messages.delete":
        found["gone"] = True
    return found or ""


def serve(handler):
    config = types.SimpleNamespace(appExtend=None)
    if handler:
        config.onRequest = handler
    app = sdk.createApp(config)
    app.logger.setLevel(logging.CRITICAL)
    server = make_server("127.0.0.1", 0, app)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def crawler(server, *args, **more):
    url = f"http://127.0.0.1:{server.server_port}/"
    environment = dict(os.environ, RC_DIGITAL_TOKEN=TOKEN)
    command = [os.environ["DIGITAL_CRAWLER"], url, "--json", *args]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **more)


def crawl(server, *args):
    child = crawler(server, *args, stdin=subprocess.DEVNULL)
    lines = [json.loads(line) for line in child.communicate(timeout=60)[0].splitlines()]
    return child.returncode, lines


def of(lines, kind):
    return [line for line in lines if line["type"] == kind]


def check(what, good, told):
    print("ok" if good else "FAILED", what, "" if good else json.dumps(told, indent=1))
    if not good:
        FAILED.append(what)


logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
forum = serve(on_request)
code, lines = crawl(forum, "--reply", "On its way.", "--delete", "--show", "m-1")
check("runs, a reply, its deletion and an audit are clean", code == 0 and not of(lines, "violation"), lines)
end = of(lines, "end")[0]["contents"]
check("all pages came", end["messages"] == 26 and end["threads"] == 1, end)
check("the reply was written once", len(MESSAGES) == 26 and MESSAGES[25]["in_reply_to_id"] == "m-25", MESSAGES[-1])

# It verifies a body that it has written anew with ASCII escapes, so it takes those and
# refuses raw UTF-8: its own mistake, and found as such.
code, lines = crawl(forum, "--reply", "café", "--wire", "ascii")
check("ASCII escapes are taken", code == 0 and not of(lines, "violation"), lines)
code, lines = crawl(forum, "--reply", "café")
refused = [line for line in of(lines, "violation") if line["rule"] == "status" and line["action"] == "messages.create"]
check("raw UTF-8 is refused, as is known of it", code == 1 and "422" in refused[0]["message"], lines)

# Forgeries: none is taken. It fails with 500 where it should refuse, and its handlers
# cannot refuse at all: the package answers 200 whatever they say.
code, lines = crawl(forum, "--check")
rules = {(line["rule"], line["action"].removeprefix("check: ")) for line in of(lines, "violation")}
forms = ("raw UTF-8", "HTML escapes", "escaped slashes", "several lines", "a line feed at the end")
known = {("genuine_refused", form) for form in forms}
known |= {("refusal_status", name) for name in ("no signature", "not UTF-8", "not JSON", "a list", "no action")}
known |= {("nonsense_accepted", name) for name in
          ("a number for an action", "an undeclared operation", "an unknown collection")}
check("no forgery is taken, and its mistakes are the known ones", rules == known, sorted(rules ^ known))

# Its demo answers a show with a text, and signs that without the quotes.
demo = serve(None)
code, lines = crawl(demo, "--show", "x")
found = of(lines, "violation")
check("its own demo runs, and signs a text without its quotes, as is known of it",
      [(line["rule"], line["action"]) for line in found] == [("signature_wrong", "messages.show")]
      and "that of the text without its quotes" in found[0]["message"], lines)

# Its client of the Send API.
child = crawler(forum, "--runs", "1", "--stay", stdin=subprocess.PIPE)
lines = []
while not lines or lines[-1]["type"] != "serving":
    lines.append(json.loads(child.stdout.readline()))
url = lines[-1]["send_url"]
message = {"action": "messages.create", "params": {
    "id": "m-99", "thread_id": "t-9", "author": ANA, "body": "Sent at once, café", "format": "text"}}
answer = sdk.postMessageToEngage(message, url, TOKEN)
check("what its client sends is taken", (answer.status_code, answer.text) == (200, "ok"), answer.text)
for body, secret, want in [
    (message, "wrong", "Invalid signature"),
    ({"action": "messages.create", "params": {"id": "m-98"}}, TOKEN, "Invalid resource format"),
    ({"action": "messages.shiny", "params": {}}, TOKEN, "Invalid action"),
]:
    try:
        sdk.postMessageToEngage(body, url, secret)
        told = "taken"
    except Exception as error:  # the package raises no other
        told = str(error)
    check(f"its client is told: {want}", "422" in told and want in told, told)
child.stdin.close()
lines = [json.loads(line) for line in child.stdout.read().splitlines()]
child.wait(timeout=60)
received = of(lines, "received")
check("and it is there", [line["params"] for line in received] == [{"id": "m-99"}], lines)
sys.exit(1 if FAILED else 0)
