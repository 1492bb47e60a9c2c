"""The receiver of @NAME@: takes deliveries and lifecycle callbacks, and believes only what is signed.
No framework and no dependency: Python 3.9 or later.

    SIGNING_SECRET   whsec_…; more than one, separated by blanks, while it is being rotated
    PORT             9000 where nothing is said
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONGEST_BODY = 8 << 20
OLDEST_SECONDS = 300
MOST_REMEMBERED = 10_000


def read_secrets(text):
    secrets = []
    for secret in text.split():
        if not secret.startswith("whsec_"):
            raise SystemExit("SIGNING_SECRET must begin with whsec_")
        secrets.append(base64.b64decode(secret[len("whsec_") :]))
    if not secrets:
        raise SystemExit("SIGNING_SECRET is not set")
    return secrets


SECRETS = read_secrets(os.environ.get("SIGNING_SECRET", ""))


def is_signed(headers, body):
    """Whether one of our secrets signed exactly these bytes, within the last five minutes."""
    delivery = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    signatures = headers.get("webhook-signature", "")
    if not (delivery and timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs(time.time() - int(timestamp)) > OLDEST_SECONDS:
        return False
    signed = f"{delivery}.{timestamp}.".encode() + body
    for part in signatures.split(" "):
        if not part.startswith("v1,"):
            continue
        try:
            given = base64.b64decode(part[len("v1,") :], validate=True)
        except (binascii.Error, ValueError):
            continue
        for secret in SECRETS:
            if hmac.compare_digest(given, hmac.new(secret, signed, hashlib.sha256).digest()):
                return True
    return False


class Taken:
    """The deliveries that were taken on, the oldest first. One whose answer got lost comes again
    under its id. A real receiver keeps them in its database."""

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


def handle(event, security_context):
    """Your work begins here. What it raises is logged; the delivery was answered already."""
    # With `security_context` you may call the help desk back: docs/INVOKE.md.
    payload = event.get("payload") or {}
    about = json.dumps(payload.get("subject") or payload.get("id"))
    print(f"{event['eventType']} of org {event['orgId']}: {about}", flush=True)


def handle_callback(callback):
    """What happens to your installations: onInstall, onZohoAuthorise, onUpdate, onUninstall."""
    about = f"installation {callback['installationId']}"
    print(f"{callback['event']} of org {callback['orgId']}: {about}", flush=True)


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
        if url.path not in ("/hooks", "/callbacks"):
            return self.end(404)
        length = self.length()
        if length is None:
            return self.end(411)
        if length > LONGEST_BODY:
            return self.end(413)
        # The signature is over the bytes as they came: verify before anything else looks at them.
        body = self.rfile.read(length)
        if not is_signed(self.headers, body):
            return self.end(401)
        is_hook = url.path == "/hooks"
        try:
            content = json.loads(body)
            # The query is not signed and the body is: both must name one org.
            org_id = query.get("orgId", [""])[0]
            if is_hook and any(event["orgId"] != org_id for event in content):
                return self.end(400)
        except (ValueError, KeyError, TypeError):
            return self.end(400)
        is_new = TAKEN.take_on(self.headers["webhook-id"])
        # Answer first, work then: a delivery has 10 seconds.
        self.end(200)
        if not is_new:
            return
        if not is_hook:
            return handle_callback(content)
        for event in content:
            handle(event, query.get("securityContext", [""])[0])

    def log_message(self, *_arguments):
        """The address of a delivery holds the securityContext, which belongs in no log."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
