// Prints delivery reports, each once, with ioredis 6. First: npm install
//
// REDIS_URL=redis://127.0.0.1:6379/0 TOPICS=urn:smn:local:default:sms_success GROUP=crm node node_consumer.js
//
// Start as many as you like, each under a CONSUMER name of its own that stays the same after a restart.
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { Cluster, Redis } from "ioredis";

const { REDIS_URL, TOPICS, GROUP, CONSUMER = hostname() } = process.env;
const MAX_DELIVERIES = Number(process.env.MAX_DELIVERIES ?? 5);
const CLAIM_AFTER = Number(process.env.CLAIM_AFTER ?? 60) * 1000; // longer than the work on COUNT entries takes
const COUNT = 10;
const REMEMBERED = 3 * 24 * 3600; // seconds in which an event that comes again is recognised
// Adds a dead letter once for each group and entry, also when the consumer ended before it could acknowledge the entry.
const PUT_ASIDE = `
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('XADD', KEYS[1], '*', unpack(ARGV))
  redis.call('SET', KEYS[2], '', 'EX', 604800)
end`;
let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => (stopping = true));

// Your work. What it throws is a failed delivery of this event.
async function handle(event) {
  console.log(event.id, event.data.message_id, event.data.status);
}

// Handle the entries of a topic until SIGTERM, which lets the batch at hand finish.
async function consume(topic) {
  const redis = connect(REDIS_URL);
  redis.on("error", (error) => console.error(`Redis: ${error.message}`)); // and it connects again by itself
  for (let pause = 50; !stopping; await sleep(pause), pause = Math.min(pause * 2, 5000)) {
    if (redis.status !== "ready") continue;
    try {
      for await (const [entry, delivered] of entries(redis, topic)) {
        await take(redis, topic, entry, delivered);
        pause = 50; // ms
      }
    } catch (error) {
      console.error(`Redis is away (${error.message}): again in ${pause} ms`);
    }
  }
  redis.disconnect();
}

// Yield entries with how often they were delivered. Those delivered before come one by one: if one ends the process,
// the count of no other rises.
async function* entries(redis, topic) {
  await redis.xgroup("CREATE", topic, GROUP, "0", "MKSTREAM").catch((error) => {
    if (!error.message.startsWith("BUSYGROUP")) throw error; // the group is there
  });
  const read = async (after, count) => {
    const from = ["STREAMS", topic, after];
    const reply = await redis.xreadgroupBuffer("GROUP", GROUP, CONSUMER, "COUNT", count, "BLOCK", 500, ...from);
    return (reply?.[0][1] ?? []).map(([id, fields]) => [String(id), fields]);
  };
  let batch;
  for (let last = "0"; !stopping && (batch = await read(last, 1)).length; last = batch[0][0])
    yield [batch[0], await deliveries(redis, topic, batch[0][0])]; // mine, from before a restart
  while (!stopping) {
    yield* stuck(redis, topic);
    for (const end = Date.now() + CLAIM_AFTER / 2; Date.now() < end && !stopping; )
      for (const entry of await read(">", COUNT)) yield [entry, 1];
  }
}

// Claim what nobody has acknowledged for CLAIM_AFTER: of consumers that died, and what failed before.
async function* stuck(redis, topic) {
  let start = "0-0";
  do {
    const [next, batch] = await redis.xautoclaimBuffer(topic, GROUP, CONSUMER, CLAIM_AFTER, start, "COUNT", 1);
    start = String(next);
    for (const entry of batch.filter(Boolean)) {
      // Redis 6.2 gives null for an entry that was trimmed
      const id = String(entry[0]);
      yield [[id, entry[1]], await deliveries(redis, topic, id)];
    }
  } while (start !== "0-0" && !stopping);
}

async function deliveries(redis, topic, id) {
  const [pending] = await redis.xpending(topic, GROUP, id, id, 1);
  return pending?.[3] ?? 1;
}

// Handle and acknowledge an entry. One that fails stays pending, until it goes to the dead letters.
async function take(redis, topic, [id, fields], delivered) {
  const reason = await attempt(redis, fields, delivered);
  if (reason) console.error(`${id} failed, delivery ${delivered}`); // the reason may name a person
  if (reason && delivered < MAX_DELIVERIES) return;
  if (reason) {
    const origin = { reason, topic, entry: id, group: GROUP, deliveries: delivered };
    const dead = `${topic}_dead`;
    const letter = [...(fields ?? []), ...Object.entries(origin).flat()];
    await redis.eval(PUT_ASIDE, 2, dead, `{${dead}}:from:${GROUP}:${id}`, ...letter);
  }
  await redis.xack(topic, GROUP, id);
}

// Do the work, then mark the event's id, so that a second delivery is skipped; return why it failed. A crash between
// the two repeats the work: a database that keeps the id in the transaction of the work has no such gap.
async function attempt(redis, fields, delivered) {
  if (delivered > MAX_DELIVERIES) return `delivered ${MAX_DELIVERIES} times, and none of the consumers finished it`;
  let event;
  try {
    event = JSON.parse(fields[fields.findIndex((name) => String(name) === "data") + 1]);
    if (typeof event?.id !== "string") throw new TypeError("it is no event: there is no id");
  } catch (error) {
    return String(error);
  }
  const mark = `done:${GROUP}:${event.id}`;
  if (await redis.exists(mark)) return;
  try {
    await handle(event);
  } catch (error) {
    return String(error);
  }
  await redis.set(mark, 1, "EX", REMEMBERED);
}

// Connect to redis://…, redis+sentinel://user:password@host:port,…/service/db or redis+cluster://host:port,…
function connect(url) {
  const reconnectOnError = ({ message }) => message.startsWith("READONLY"); // a primary that has become a replica
  const bounds = { socketTimeout: 5000, maxRetriesPerRequest: 1, enableOfflineQueue: false };
  const options = { protocol: 2, ...bounds, reconnectOnError };
  const form = /^(\w+(?:\+\w+)?):\/\/(?:(.*)@)?([^/?]+)\/?([^/?]*)\/?(\d*)(?:\?(.*))?$/;
  const [, scheme, login = ":", hosts, service, db, query] = url.replace(/^valkey/, "redis").match(form);
  if (!scheme.includes("+")) return new Redis(url.replace(/^valkey/, "redis"), options);
  const [username, password] = login.split(":").map((part) => decodeURIComponent(part) || undefined);
  const { sentinel_username, sentinel_password } = Object.fromEntries(new URLSearchParams(query));
  const tls = scheme.startsWith("rediss") ? {} : undefined; // an authority of your own: NODE_EXTRA_CA_CERTS
  const parsed = hosts.split(",").map((host) => new URL(`redis://${host}`));
  const nodes = parsed.map(({ hostname, port }) => ({ host: hostname.replace(/[[\]]/g, ""), port: port || undefined }));
  Object.assign(options, { username, password, tls });
  if (scheme.endsWith("+cluster")) return new Cluster(nodes, { enableOfflineQueue: false, redisOptions: options });
  const own = { sentinelUsername: sentinel_username, sentinelPassword: sentinel_password, sentinelTLS: tls };
  const primary = { name: service, db: Number(db), enableTLSForSentinelMode: Boolean(tls) };
  return new Redis({ ...options, sentinels: nodes, ...own, ...primary });
}

const topics = TOPICS.split(",");
if (!topics.every((topic) => /^\{?urn:/.test(topic)))
  throw new Error("TOPICS: write whole URNs, without spaces, as `receiver routes` shows them");
await Promise.all(topics.map(consume));
