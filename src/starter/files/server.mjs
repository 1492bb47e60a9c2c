// The receiver of @NAME@: takes deliveries and lifecycle callbacks, and believes only what is signed.
// No framework and no dependency: Node 18 or later.
//
//   SIGNING_SECRET   whsec_…; more than one, separated by blanks, while it is being rotated
//   PORT             9000 where nothing is said

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const { SIGNING_SECRET = "", PORT = "9000" } = process.env;
const secrets = SIGNING_SECRET.split(/\s+/).filter(Boolean).map((text) => {
  if (!text.startsWith("whsec_")) throw new Error("SIGNING_SECRET must begin with whsec_");
  return Buffer.from(text.slice("whsec_".length), "base64");
});
if (secrets.length === 0) throw new Error("SIGNING_SECRET is not set");

const LONGEST_BODY = 8 << 20;
const OLDEST_SECONDS = 300;
const MOST_REMEMBERED = 10_000;

/** Whether one of our secrets signed exactly these bytes, within the last five minutes. */
function isSigned(headers, body) {
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"];
  const signatures = headers["webhook-signature"];
  if (!id || !signatures || !/^[0-9]{1,12}$/.test(timestamp ?? "")) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > OLDEST_SECONDS) return false;
  const given = signatures.split(" ").filter((part) => part.startsWith("v1,"));
  return secrets.some((secret) => {
    const hmac = createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest();
    return given.some((part) => {
      const bytes = Buffer.from(part.slice("v1,".length), "base64");
      return bytes.length === hmac.length && timingSafeEqual(bytes, hmac);
    });
  });
}

/** The deliveries that were taken on, the oldest first; a real receiver keeps them in its database. */
const taken = new Set();

/** Whether a delivery comes for the first time: one whose answer got lost comes again under its id. */
function takeOn(id) {
  if (taken.has(id)) return false;
  taken.add(id);
  if (taken.size > MOST_REMEMBERED) taken.delete(taken.values().next().value);
  return true;
}

/** Your work begins here. What it throws is logged; the delivery was answered already. */
async function handle(event, securityContext) {
  // With `securityContext` you may call the help desk back: docs/INVOKE.md.
  console.log(`${event.eventType} of org ${event.orgId}: ${JSON.stringify(event.payload?.subject ?? event.payload?.id)}`);
}

/** What happens to your installations: onInstall, onZohoAuthorise, onUpdate, onUninstall. */
async function handleCallback(callback) {
  console.log(`${callback.event} of org ${callback.orgId}: installation ${callback.installationId}`);
}

async function read(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > LONGEST_BODY) throw new Error("the body is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const server = createServer(async (request, response) => {
  const end = (status) => response.writeHead(status).end();
  try {
    const url = new URL(request.url, "http://localhost");
    const isHook = url.pathname === "/hooks";
    if (request.method !== "POST" || !(isHook || url.pathname === "/callbacks")) return end(404);
    // The signature is over the bytes as they came: verify before anything else looks at them.
    const body = await read(request);
    if (!isSigned(request.headers, body)) return end(401);
    const content = JSON.parse(body);
    // The query is not signed and the body is: both must name one org.
    const orgId = url.searchParams.get("orgId");
    if (isHook && !content.every((event) => event.orgId === orgId)) return end(400);
    const isNew = takeOn(request.headers["webhook-id"]);
    // Answer first, work then: a delivery has 10 seconds.
    end(200);
    if (!isNew) return;
    if (!isHook) return await handleCallback(content);
    for (const event of content) await handle(event, url.searchParams.get("securityContext"));
  } catch (error) {
    console.error(error.message);
    if (!response.headersSent) end(400);
  }
});

server.listen(Number(PORT), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
