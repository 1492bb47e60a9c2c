"""The published Standard Webhooks library for Python.

Reads {"body","headers","secret"} from standard input; exits with 0 where it verifies.
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

given = json.loads(sys.stdin.buffer.read().decode())
try:
    Webhook(given["secret"]).verify(given["body"], given["headers"])
except WebhookVerificationError as error:
    sys.exit(f"{error}")
