"""The recipe of DZDESK's page in Python: HMAC-SHA256 of the raw body, in hex, after `sha256=`.

Reads {"body","signature","secret"} from standard input; exits with 0 where it verifies.
"""

import hashlib
import hmac
import json
import sys


def verify_webhook(payload, signature, secret):
    expected = hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
    return f"sha256={expected}" == signature


given = json.loads(sys.stdin.buffer.read().decode())
sys.exit(0 if verify_webhook(given["body"], given["signature"], given["secret"]) else 1)
