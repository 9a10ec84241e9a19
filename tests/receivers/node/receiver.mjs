/**
 * Receives webhooks, and verifies each with the packages that JavaScript has for its dialect.
 *
 * Its path begins with the dialect: /standard, /cloudevents, /cloudevents-binary, /github, /openfront, or /standard/any.
 * RECEIVER_SECRETS is JSON: path to the secrets of which any will do. On stdout, in lines of JSON: first {"port"}, then
 * a report of each request, written before its answer, which is 204, or 400 if it is refused. It ends with its stdin.
 */

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

import { HTTP } from "cloudevents";
import { Webhook } from "standardwebhooks";

const BINARY = "cloudevents-binary";
const BATCH = "application/cloudevents-batch+json";
// The SDK makes up what is missing of these: so that they came is looked at before it is asked.
const REQUIRED = ["id", "source", "type", "specversion"];

class Refused extends Error {}

/** What one of the secrets verifies; if none does, what the last of them has against it. */
function byAny(secrets, verify) {
  let refusal = new Refused("no secret is known for this path");
  for (const secret of secrets) {
    try {
      return verify(secret);
    } catch (error) {
      refusal = error;
    }
  }
  throw refusal;
}

function standard({ headers, body }, secrets) {
  const parsed = byAny(secrets, (secret) => new Webhook(secret).verify(body, headers));
  return Array.isArray(parsed) ? parsed : [parsed];
}

function cloudevents(request, secrets) {
  standard(request, secrets);
  const { headers, body } = request;
  if (!/^application\/cloudevents(-batch)?\+json(;|$)/.test(headers["content-type"] ?? "")) {
    throw new Refused(`${headers["content-type"]} is no content type of structured CloudEvents`);
  }
  const parsed = JSON.parse(body);
  const came = headers["content-type"].startsWith(BATCH) ? parsed : [parsed];
  came.forEach((event) => required((name) => event[name]));
  return read({ headers, body });
}

function cloudeventsBinary(request, secrets) {
  standard(request, secrets);
  const { headers, body } = request;
  if (/^application\/cloudevents/.test(headers["content-type"] ?? "")) {
    throw new Refused("a structured event came where binary ones are expected");
  }
  required((name) => headers[`ce-${name}`]);
  return read({ headers, body });
}

function required(attribute) {
  const missing = REQUIRED.filter((name) => !attribute(name));
  if (missing.length > 0) throw new Refused(`CloudEvents attributes are missing: ${missing.join(", ")}`);
  if (attribute("specversion") !== "1.0") throw new Refused(`specversion is ${attribute("specversion")}`);
}

/** As the SDK reads it: one event or, of a batch, several. */
function read(message) {
  const events = [HTTP.toEvent(message)].flat();
  events.forEach((event) => event.validate());
  return events.map((event) => event.toJSON());
}

function github({ headers, raw, body }, secrets) {
  present(headers, ["x-github-event", "x-github-delivery"]);
  hexSigned(headers["x-hub-signature-256"], raw, secrets);
  return [JSON.parse(body)];
}

function openfront({ headers, raw, body }, secrets) {
  present(headers, ["x-openfront-topic", "x-openfront-listkey", "x-openfront-operation", "x-openfront-delivery-id"]);
  hexSigned(headers["x-openfront-webhook-signature"], raw, secrets);
  return [JSON.parse(body)];
}

function present(headers, names) {
  const missing = names.filter((name) => !headers[name]);
  if (missing.length > 0) throw new Refused(`headers are missing: ${missing.join(", ")}`);
}

/** `sha256=` and the hex HMAC of the body, keyed with the secret's text. */
function hexSigned(signature, raw, secrets) {
  byAny(secrets, (secret) => {
    const expected = Buffer.from(`sha256=${createHmac("sha256", secret).update(raw).digest("hex")}`);
    const came = Buffer.from(signature ?? "");
    if (came.length !== expected.length || !timingSafeEqual(came, expected)) {
      throw new Refused("the signature is missing, or another");
    }
  });
}

const DIALECTS = { standard, cloudevents, [BINARY]: cloudeventsBinary, github, openfront };
const secrets = JSON.parse(process.env.RECEIVER_SECRETS);

async function receive(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { url: path, headers } = request;
  const report = { path, dialect: path.split("/")[1], ok: false, error: null, headers, body: null, events: [] };
  try {
    const raw = Buffer.concat(chunks);
    const body = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
    report.body = JSON.parse(body);
    if (!Object.hasOwn(DIALECTS, report.dialect)) throw new Refused(`nothing is received at ${path}`);
    report.events = DIALECTS[report.dialect]({ headers, raw, body }, secrets[path] ?? []);
    report.ok = true;
  } catch (error) {
    report.error = `${error.name}: ${error.message}`;
  }
  return report;
}

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const server = createServer(async (request, response) => {
  const report = await receive(request);
  say(report);
  response.writeHead(report.ok ? 204 : 400).end();
});
server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
process.stdin.on("end", () => process.exit()).resume();
