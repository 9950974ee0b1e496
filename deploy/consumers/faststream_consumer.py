"""Prints delivery reports, each once, with FastStream 0.7 (tried with 0.7.8).

REDIS_URL=redis://127.0.0.1:6379/0 TOPICS=urn:smn:local:default:sms_success GROUP=crm python faststream_consumer.py

With Sentinel or a Cluster, RedisSentinelBroker or RedisClusterBroker takes the place of RedisBroker.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable

from faststream import AckPolicy, BaseMiddleware, FastStream
from faststream.exceptions import NackMessage
from faststream.redis import RedisBroker, RedisStreamMessage, StreamSub
from faststream.redis.annotations import Redis
from redis import RedisError, ResponseError

TOPICS, GROUP = os.environ["TOPICS"].split(","), os.environ["GROUP"]
if not all(topic.startswith(("urn:", "{urn:")) for topic in TOPICS):
    raise SystemExit("TOPICS: write whole URNs, without spaces, as `receiver routes` shows them")
CONSUMER = os.environ.get("CONSUMER", socket.gethostname())  # stays the same after a restart
MAX_DELIVERIES = int(os.environ.get("MAX_DELIVERIES", "5"))
CLAIM_AFTER = int(float(os.environ.get("CLAIM_AFTER", "60")) * 1000)  # ms: longer than the work on an entry takes
REMEMBERED = 3 * 24 * 3600  # seconds in which an event that comes again is recognised
# Adds a dead letter once for each group and entry, also when the consumer ended before it could acknowledge the entry.
PUT_ASIDE = """
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('XADD', KEYS[1], '*', unpack(ARGV))
  redis.call('SET', KEYS[2], '', 'EX', 604800)
end"""
log = logging.getLogger("consumer")


async def handle(event: dict, redis: Redis) -> None:
    """Your work, then a mark for the event's id, so that a second delivery is skipped.

    A crash between the two repeats the work. A database that keeps the id in the same transaction has no such gap.
    """
    mark = f"done:{GROUP}:{event['id']}"
    if await redis.exists(mark):
        return
    data = event["data"]  # of a report; a reply has neither a message_id nor a status
    print(event["id"], data.get("message_id"), data.get("status"), flush=True)
    await redis.set(mark, 1, ex=REMEMBERED)


class DeadLetters(BaseMiddleware):
    """Leaves an entry that fails pending, and puts it aside when it has failed MAX_DELIVERIES times."""

    async def consume_scope(self, call_next: Callable[..., Awaitable], msg: RedisStreamMessage) -> None:
        """Call the handler. An entry is acknowledged when this returns, and claimed after CLAIM_AFTER when it nacks."""
        delivered = await msg.get_delivery_count()
        if delivered > MAX_DELIVERIES:
            await put_aside(msg, delivered, f"delivered {MAX_DELIVERIES} times, and none of the consumers finished it")
            return
        try:
            await call_next(msg)
        except RedisError:  # Redis is away, which is no fault of the entry
            raise
        except Exception as error:
            log.warning("%s failed, delivery %d", msg.message_id, delivered)  # the reason may name a person
            if delivered < MAX_DELIVERIES:
                raise NackMessage from error
            await put_aside(msg, delivered, f"{type(error).__name__}: {error}")


async def put_aside(msg: RedisStreamMessage, delivered: int, reason: str) -> None:
    """Add an entry to the dead letters of its topic."""
    topic, [entry] = msg.raw_message["channel"], msg.raw_message["message_ids"]
    origin = {"reason": reason, "topic": topic, "entry": entry, "group": GROUP, "deliveries": delivered}
    redis, dead = await broker.connect(), f"{topic}_dead"
    flat = [part for pair in {**msg.raw_message["received"], **origin}.items() for part in pair]
    await redis.eval(PUT_ASIDE, 2, dead, f"{{{dead}}}:from:{GROUP}:{text(entry)}", *flat)


def text(entry: bytes | str) -> str:
    """Return the id of an entry as text."""
    return entry.decode() if isinstance(entry, bytes) else entry


async def parse(msg: dict, original: Callable[..., Awaitable[RedisStreamMessage]]) -> RedisStreamMessage:
    """Let garbage get as far as the dead letters, as it was received. FastStream itself takes only UTF-8."""
    fields = {name: value.decode(errors="replace").encode() for name, value in msg["data"].items()}
    return await original({**msg, "data": fields, "received": msg["data"]})


broker = RedisBroker(
    os.environ["REDIS_URL"],
    parser=parse,
    middlewares=[DeadLetters],
    ack_policy=AckPolicy.NACK_ON_ERROR,
    graceful_timeout=20,  # seconds that the entry at hand gets after SIGTERM
)
for topic in TOPICS:
    new = StreamSub(topic, group=GROUP, consumer=CONSUMER, max_records=1)
    stuck = StreamSub(
        topic, group=GROUP, consumer=CONSUMER, min_idle_time=CLAIM_AFTER, polling_interval=CLAIM_AFTER // 2
    )
    broker.subscriber(stream=stuck)(broker.subscriber(stream=new)(handle))

app = FastStream(broker)


@app.on_startup
async def create_groups() -> None:
    """Start at the beginning of the topic. FastStream's own groups would start at its end."""
    redis = await broker.connect()
    for topic in TOPICS:
        try:
            await redis.xgroup_create(topic, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # the group is there
                raise


if __name__ == "__main__":
    asyncio.run(app.run())
