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
    // Answer first, work then: a delivery has 10 s, and comes again where it failed.
    end(200);
    for (const event of events) await handle(event, orgId, url.searchParams.get("securityContext"));
  } catch (error) {
    console.error(error.message);
    if (!response.headersSent) end(error.name === "WebhookVerificationError" ? 401 : 400);
  }
});

server.listen(Number(PORT), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
