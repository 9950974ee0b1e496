"""Stores delivery reports in a database: loses none, and counts none twice. Needs redis-py 8.

REDIS_URL=redis://127.0.0.1:6379/0 TOPICS=urn:smn:local:default:sms_success GROUP=billing python redis_consumer.py

Start as many as you like, each under a CONSUMER name of its own that stays the same after a restart.
"""

import json
import logging
import os
import re
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import Redis, RedisCluster, RedisError, ResponseError, Sentinel
from redis.cluster import ClusterNode
from redis.exceptions import RedisClusterException

GROUP = os.environ["GROUP"]
CONSUMER = os.environ.get("CONSUMER", socket.gethostname())
MAX_DELIVERIES = int(os.environ.get("MAX_DELIVERIES", "5"))
CLAIM_AFTER = float(os.environ.get("CLAIM_AFTER", "60"))  # seconds: longer than the work on COUNT entries takes
COUNT = 10
Batch = list[tuple[bytes, dict[bytes, bytes]]]
# Adds a dead letter once for each group and entry, also when the consumer ended before it could acknowledge the entry.
PUT_ASIDE = """
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('XADD', KEYS[1], '*', unpack(ARGV))
  redis.call('SET', KEYS[2], '', 'EX', 604800)
end"""
log = logging.getLogger("consumer")
stopping = threading.Event()


def handle(event: dict, database: sqlite3.Connection) -> None:
    """Your work. The event's id is a unique key in the same transaction, so that a second delivery changes nothing."""
    data = event["data"]  # of a report; a reply has neither a message_id nor a status
    row = event["id"], data.get("message_id"), data.get("status"), data.get("status_desc")
    with database:
        database.execute("INSERT INTO reports VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)


def consume(topic: str) -> None:
    """Handle the entries of a topic until SIGTERM; the batch at hand is finished. Reconnect when Redis was away."""
    database = sqlite3.connect(os.environ.get("DATABASE", "reports.sqlite"), timeout=1)
    database.execute("CREATE TABLE IF NOT EXISTS reports (event_id TEXT PRIMARY KEY, message_id, status, status_desc)")
    pause = 0.1
    while not stopping.is_set():
        try:
            with connect(os.environ["REDIS_URL"]) as redis:
                for batch, delivered in batches(redis, topic):
                    take(redis, topic, batch, delivered, database)
                    pause = 0.1
        except (RedisError, RedisClusterException, OSError) as error:
            log.warning("Redis is away (%s): again in %.1f s", error, pause)
            stopping.wait(pause)
            pause = min(pause * 2, 10)


def batches(redis: Redis, topic: str) -> Iterator[tuple[Batch, int]]:
    """Yield entries with how often they were delivered.

    Entries delivered before come one by one: if one ends the process, the count of no other rises.
    """
    try:
        redis.xgroup_create(topic, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):  # the group is there
            raise
    last = b"0"
    while (batch := read(redis, topic, last, 1)) and not stopping.is_set():  # mine, from before a restart
        yield batch, deliveries(redis, topic, batch)
        last = batch[-1][0]
    while not stopping.is_set():
        yield from stuck(redis, topic)
        end = time.monotonic() + CLAIM_AFTER / 2
        while time.monotonic() < end and not stopping.is_set():
            if batch := read(redis, topic, b">", COUNT):
                yield batch, 1


def read(redis: Redis, topic: str, after: bytes, count: int) -> Batch:
    """Read new entries (``>``), or my own unacknowledged ones after an id."""
    reply = redis.xreadgroup(GROUP, CONSUMER, {topic: after}, count=count, block=500)
    return reply[0][1] if reply else []


def stuck(redis: Redis, topic: str) -> Iterator[tuple[Batch, int]]:
    """Claim what nobody has acknowledged for CLAIM_AFTER: of consumers that died, and what failed before."""
    start = b"0-0"
    while not stopping.is_set():
        start, batch, *_ = redis.xautoclaim(topic, GROUP, CONSUMER, int(CLAIM_AFTER * 1000), start_id=start, count=1)
        if batch and batch[0][0]:  # Redis 6.2 gives None for an entry that was trimmed
            yield batch, deliveries(redis, topic, batch)
        if start == b"0-0":
            return


def deliveries(redis: Redis, topic: str, batch: Batch) -> int:
    """Return how often the only entry of a batch was delivered, this time included."""
    pending = redis.xpending_range(topic, GROUP, batch[0][0], batch[0][0], 1)
    return pending[0]["times_delivered"] if pending else 1


def take(redis: Redis, topic: str, batch: Batch, delivered: int, database: sqlite3.Connection) -> None:
    """Handle and acknowledge a batch. An entry that fails stays pending, until it goes to the dead letters."""
    ids = [entry_id for entry_id, _ in batch]
    for at, (entry_id, fields) in enumerate(batch):
        while True:
            try:
                reason = attempt(fields, delivered, database)
                break
            except sqlite3.OperationalError as error:  # raised by attempt for a database that is away
                log.warning("The database is away (%s)", error)
                redis.xclaim(topic, GROUP, CONSUMER, 0, ids[at:], justid=True)  # still mine; not counted
                if stopping.wait(min(1, CLAIM_AFTER / 3)):
                    return
        if reason and delivered < MAX_DELIVERIES:
            log.warning("%s failed, delivery %d", entry_id.decode(), delivered)  # the reason may name a person
            continue
        if reason:
            origin = {"reason": reason, "topic": topic, "entry": entry_id, "group": GROUP, "deliveries": delivered}
            dead, flat = f"{topic}_dead", [part for pair in {**fields, **origin}.items() for part in pair]
            redis.eval(PUT_ASIDE, 2, dead, f"{{{dead}}}:from:{GROUP}:{entry_id.decode()}", *flat)
            log.error("%s went to %s_dead", entry_id.decode(), topic)
        redis.xack(topic, GROUP, entry_id)


def attempt(fields: dict[bytes, bytes], delivered: int, database: sqlite3.Connection) -> str | None:
    """Do the work once. Return why it failed, or None."""
    if delivered > MAX_DELIVERIES:
        return f"delivered {MAX_DELIVERIES} times, and none of the consumers finished it"
    try:
        handle(json.loads(fields[b"data"]), database)
    except Exception as error:  # any error of an entry
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR:
            raise  # locked, full, not there: no fault of the entry. SQLITE_ERROR is one of the statement
        return f"{type(error).__name__}: {error}"
    return None


def connect(url: str) -> Redis | RedisCluster:
    """Connect to one node, Sentinels or a Cluster.

    redis://…, redis+sentinel://user:password@host:port,…/service/db, redis+cluster://user:password@host:port,…
    """
    url = re.sub("^valkey", "redis", url)
    scheme, _, rest = url.partition("://")
    if "+" not in scheme:
        return Redis.from_url(url)
    rest, _, query = rest.partition("?")
    login, _, address = rest.rpartition("@")
    hosts, *path = address.split("/")
    hosts = [urlsplit(f"//{host}") for host in hosts.split(",")]
    user, _, password = (unquote(part) or None for part in login.partition(":"))
    given = {name: {"true": True, "false": False}.get(value, value) for name, value in parse_qsl(query)}
    tls = {"ssl": scheme.startswith("rediss"), **{name: value for name, value in given.items() if "ssl_" in name}}
    options = {"username": user, "password": password, **tls}
    if scheme.endswith("+cluster"):
        nodes = [ClusterNode(host.hostname, host.port or 6379) for host in hosts]
        return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
    sentinels = [(host.hostname, host.port or 26379) for host in hosts]
    own = {name.removeprefix("sentinel_"): value for name, value in given.items() if "sentinel_" in name}
    own = {"socket_timeout": 1, "socket_connect_timeout": 1, **tls, **own}
    return Sentinel(sentinels, sentinel_kwargs=own, **options).master_for(path[0], db=int("".join(path[1:]) or 0))


def main() -> None:
    """Consume each topic in a thread of its own, which works on a Cluster as well."""
    topics = os.environ["TOPICS"].split(",")
    if not all(topic.startswith(("urn:", "{urn:")) for topic in topics):
        raise SystemExit("TOPICS: write whole URNs, without spaces, as `receiver routes` shows them")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with ThreadPoolExecutor(len(topics)) as pool:
        try:
            for done in as_completed([pool.submit(consume, topic) for topic in topics]):
                done.result()
        finally:
            stopping.set()


if __name__ == "__main__":
    main()
