// A vendor's backend in Node: takes deliveries, verifies them with the published library, and
// answers a new ticket with a comment through invoke. No framework, one dependency.
//
//   MORTISE_URL       where the server is, such as http://127.0.0.1:8080
//   SIGNING_SECRET    whsec_…, from GET /extensions/{key}/signing-secret
//   MANIFEST_SECRET   the `secret` of plugin-manifest.json
//   PORT              0 takes a free one; the address is printed

import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const { MORTISE_URL, SIGNING_SECRET, MANIFEST_SECRET, PORT = "3000" } = process.env;
for (const [name, value] of Object.entries({ MORTISE_URL, SIGNING_SECRET, MANIFEST_SECRET })) {
  if (!value) throw new Error(`${name} is not set`);
}
const webhook = new Webhook(SIGNING_SECRET);
const LONGEST_BODY = 8 << 20;
const MOST_REMEMBERED = 10_000;

/** What `HASH` covers, in this order; fields that are empty are left out. */
const COVERED = ["requestURL", "requestType", "queryParams", "postBody", "headers", "connectionLinkName"];

function hashOf(fields) {
  const text = COVERED.filter((name) => fields[name])
    .map((name) => `${name}=${fields[name]}`)
    .join("&");
  return createHmac("sha256", MANIFEST_SECRET).update(text).digest("hex");
}

/** Calls the help desk as the installation that a securityContext stands for. */
async function invoke(orgId, securityContext, fields) {
  const answer = await fetch(`${MORTISE_URL}/api/v1/invoke?orgId=${encodeURIComponent(orgId)}`, {
    method: "POST",
    headers: { HASH: hashOf(fields) },
    body: new URLSearchParams({ ...fields, securityContext }),
  });
  const document = await answer.json();
  if (!answer.ok) throw new Error(`invoke: ${answer.status} ${document.errorCode}`);
  return JSON.parse(document.response);
}

/** The deliveries that were taken on, the oldest first; a real backend keeps them in its database. */
const taken = new Set();

/**
 * Whether a delivery comes for the first time: one whose answer got lost comes again under its id,
 * and must not post its comment twice.
 */
function takeOn(id) {
  if (taken.has(id)) return false;
  taken.add(id);
  if (taken.size > MOST_REMEMBERED) taken.delete(taken.values().next().value);
  return true;
}

async function handle(event, orgId, securityContext) {
  if (event.eventType !== "Ticket_Add") return;
  const { statusCode } = await invoke(orgId, securityContext, {
    requestURL: `/api/v1/tickets/${encodeURIComponent(event.payload.id)}/comments`,
    requestType: "POST",
    // The event that this call causes carries the sourceId, and does not come back to us.
    headers: JSON.stringify({ sourceId: "7d3b1c2e-91f4-11ef-9c5e-0b6a4f2d8e13" }),
    postBody: JSON.stringify({ content: "We are on it.", isPublic: "false" }),
  });
  console.log(`ticket ${event.payload.id}: commented, ${statusCode}`);
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
    if (request.method !== "POST" || url.pathname !== "/hooks/desk") return end(404);
    // The signature is over the bytes as they came: verify before anything else looks at them.
    const body = await read(request);
    const events = webhook.verify(body, request.headers);
    // The query is not signed and the body is: both must name one org.
    const orgId = url.searchParams.get("orgId");
    if (!events.every((event) => event.orgId === orgId)) return end(400);
    const isNew = takeOn(request.headers["webhook-id"]);
    // Answer first, work then: a delivery has 10 s. After the 200 it does not come again, so what
    // fails from here on is this backend's to repeat: a real one puts it into a queue before.
    end(200);
    if (!isNew) return;
    for (const event of events) await handle(event, orgId, url.searchParams.get("securityContext"));
  } catch (error) {
    console.error(error.message);
    if (!response.headersSent) end(error.name === "WebhookVerificationError" ? 401 : 400);
  }
});

server.listen(Number(PORT), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
