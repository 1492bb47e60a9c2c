// The recipe of DZDESK's page in JavaScript: HMAC-SHA256 of the raw body, in hex, after `sha256=`.
// Reads {"body","signature","secret"} from standard input; exits with 0 where it verifies.

import crypto from "node:crypto";
import { readFileSync } from "node:fs";

function verifyWebhook(payload, signature, secret) {
  const expected = crypto.createHmac("sha256", secret).update(payload).digest("hex");
  return `sha256=${expected}` === signature;
}

const { body, signature, secret } = JSON.parse(readFileSync(0, "utf8"));
process.exit(verifyWebhook(body, signature, secret) ? 0 : 1);
