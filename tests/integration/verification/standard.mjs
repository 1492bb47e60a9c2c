// The published Standard Webhooks library for Node. Reads {"body","headers","secret"} from standard
// input; exits with 0 where it verifies.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

// Installed for the examples, beside which this file does not stand.
const require = createRequire(process.env.LIBRARY_FOLDER + "/");
const { Webhook } = require("standardwebhooks");

const { body, headers, secret } = JSON.parse(readFileSync(0, "utf8"));
try {
  new Webhook(secret).verify(body, headers);
} catch (error) {
  console.error(String(error));
  process.exit(1);
}
