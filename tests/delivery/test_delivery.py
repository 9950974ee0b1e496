"""Where events go: to Redis, else to the disk, else nowhere; and that the metrics tell."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest
import structlog
from messages import body, report
from redis.exceptions import ResponseError
from servers import eventually, free_port

from receiver.delivery.delivery import Delivery
from receiver.events import Entry
from receiver.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis
    from servers import Receiver

#: Of no project: retention does not look at them.
ONE, OTHER = "urn:smn:local:p:one", "urn:smn:local:p:other"


@pytest.fixture
async def delivery(redis_url, tmp_path):
    """Return an open delivery to an empty Redis."""
    settings = read_settings({"RECEIVER_DATA_DIR": str(tmp_path), "RECEIVER_PUBLISH_TIMEOUT": "1.2s"})
    one = Delivery(settings, redis_url, structlog.get_logger("test"))
    await one.open()
    yield one
    await one.close()


async def test_a_topic_that_takes_nothing_does_not_send_the_others_to_disk(redis: Redis, delivery: Delivery) -> None:
    """Its own events wait on disk; Redis is not called away."""
    await redis.set(OTHER, "a text")
    with structlog.testing.capture_logs() as logs:
        await delivery.store([Entry(OTHER, b"1" * 16, b"data"), Entry(ONE, b"2" * 16, b"data")], 100)
        assert delivery.route == "redis"
        await delivery.store([Entry(ONE, b"3" * 16, b"data")], 100)
    assert await redis.xlen(ONE) == 2
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await redis.xlen(OTHER)
    assert [log for log in logs if log["event"] == "redis.away"] == []


def test_the_metrics_tell_where_events_go(serve: Callable[..., Receiver]) -> None:
    """To disk while Redis is away; nowhere from the first refusal on; to disk as soon as it takes them again."""
    service = serve(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")

    def goes(route: str) -> bool:
        return [service.figure(f'receiver_route{{route="{one}"}}') for one in ("redis", "spool", "refuse")] == [
            route == one for one in ("redis", "spool", "refuse")
        ]

    assert service.post(body([report("1")]))[0] == 200
    assert goes("spool")
    _, hard = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (0, hard))
    assert service.post(body([report("2")]))[0] == 503
    assert goes("refuse")
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (hard, hard))
    eventually(lambda: goes("spool"), "events go to disk again")
    assert service.post(body([report("2")]))[0] == 200
