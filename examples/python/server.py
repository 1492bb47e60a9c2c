"""A vendor's backend in Python: takes deliveries, verifies them with the published library, and
answers a new ticket with a comment through invoke. The standard library and one dependency.

    MORTISE_URL       where the server is, such as http://127.0.0.1:8080
    SIGNING_SECRET    whsec_…, from GET /extensions/{key}/signing-secret
    MANIFEST_SECRET   the `secret` of plugin-manifest.json
    PORT              0 takes a free one; the address is printed
"""

import hashlib
import hmac
import json
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

MORTISE_URL = os.environ["MORTISE_URL"]
MANIFEST_SECRET = os.environ["MANIFEST_SECRET"].encode()
WEBHOOK = Webhook(os.environ["SIGNING_SECRET"])
LONGEST_BODY = 8 << 20
MOST_REMEMBERED = 10_000

# What HASH covers, in this order; fields that are empty are left out.
COVERED = ("requestURL", "requestType", "queryParams", "postBody", "headers", "connectionLinkName")


def hash_of(fields):
    text = "&".join(f"{name}={fields[name]}" for name in COVERED if fields.get(name))
    return hmac.new(MANIFEST_SECRET, text.encode(), hashlib.sha256).hexdigest()


def invoke(org_id, security_context, fields):
    """Calls the help desk as the installation that a securityContext stands for."""
    request = urllib.request.Request(
        f"{MORTISE_URL}/api/v1/invoke?orgId={urllib.parse.quote(org_id, safe='')}",
        data=urllib.parse.urlencode({**fields, "securityContext": security_context}).encode(),
        headers={"HASH": hash_of(fields)},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(json.load(answer)["response"])


def handle(event, org_id, security_context):
    if event["eventType"] != "Ticket_Add":
        return
    ticket = event["payload"]["id"]
    answer = invoke(
        org_id,
        security_context,
        {
            "requestURL": f"/api/v1/tickets/{urllib.parse.quote(ticket, safe='')}/comments",
            "requestType": "POST",
            # The event that this call causes carries the sourceId, and does not come back to us.
            "headers": json.dumps({"sourceId": "7d3b1c2e-91f4-11ef-9c5e-0b6a4f2d8e13"}),
            "postBody": json.dumps({"content": "We are on it.", "isPublic": "false"}),
        },
    )
    print(f"ticket {ticket}: commented, {answer['statusCode']}", flush=True)


class Taken:
    """The deliveries that were taken on, the oldest first. One whose answer got lost comes again
    under its id, and must not post its comment twice. A real backend keeps them in its database."""

    def __init__(self):
        self.lock = threading.Lock()
        self.ids = {}

    def take_on(self, delivery):
        """Whether it comes for the first time."""
        with self.lock:
            if delivery in self.ids:
                return False
            self.ids[delivery] = True
            if len(self.ids) > MOST_REMEMBERED:
                del self.ids[next(iter(self.ids))]
            return True


TAKEN = Taken()


class Handler(BaseHTTPRequestHandler):
    # A sender that stops in the middle of its body holds a thread no longer than this.
    timeout = 30

    def length(self):
        """How long the body is; nothing where that is not said, or not as a number."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

    def end(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()

    def do_POST(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path != "/hooks/desk":
            return self.end(404)
        length = self.length()
        if length is None:
            return self.end(411)
        if length > LONGEST_BODY:
            return self.end(413)
        # The signature is over the bytes as they came: verify before anything else looks at them.
        body = self.rfile.read(length)
        try:
            events = WEBHOOK.verify(body, dict(self.headers))
        except WebhookVerificationError:
            return self.end(401)
        # The query is not signed and the body is: both must name one org.
        org_id = query.get("orgId", [""])[0]
        if any(event["orgId"] != org_id for event in events):
            return self.end(400)
        is_new = TAKEN.take_on(self.headers["webhook-id"])
        # Answer first, work then: a delivery has 10 s. After the 200 it does not come again, so what
        # fails from here on is this backend's to repeat: a real one puts it into a queue before.
        self.end(200)
        if not is_new:
            return
        for event in events:
            try:
                handle(event, org_id, query.get("securityContext", [""])[0])
            except urllib.error.HTTPError as error:
                print(f"invoke: {error.code}", flush=True)
            except OSError as error:
                print(f"invoke: {error}", flush=True)

    def log_message(self, *_arguments):
        """The address of a delivery holds the securityContext, which belongs in no log."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "3000"))), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
