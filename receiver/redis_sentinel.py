"""Finds the primary of a service: asks all Sentinels at once, and takes the answer with the latest fail-over.

redis-py asks one Sentinel after the other. Two frozen Sentinels would take longer than a batch may. A Sentinel
that was cut off would name the former primary.

A planned fail-over promotes the replica a second before the Sentinels name it, and what the old primary takes in that
second is lost. So Sentinels are listened to: they announce a fail-over two steps, some 0.1 s, before the promotion.

https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from receiver.tasks import answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from receiver.redis_url import HostPort, RedisLocation

_logger: Final = logging.getLogger("receiver")
#: Seconds for a Sentinel to answer, and, after the first answer, for another Sentinel to know better. A batch may take
#: half a second, and has to reach the primary in it.
_TIMEOUT: Final = 2.0
_SECOND_OPINION: Final = 0.1
#: Channels of the first steps of a fail-over. The message has the name of the service among its words.
_ANNOUNCEMENTS: Final = ("+try-failover", "+failover-state-select-slave", "+failover-state-send-slaveof-noone")
#: What the Sentinel that leads a fail-over says of the primary.
_FAILING_OVER: Final = "failover_in_progress"
#: Seconds without a message after which a PING is sent, and until a Sentinel that has gone is tried again.
_SILENCE: Final = 5.0
_LISTEN_AGAIN: Final = 1.0


class Sentinels(Sentinel):
    """The Sentinels of a location. Connections of ``master_for`` ask them before each connect."""

    def __init__(self, location: RedisLocation) -> None:
        options = {
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": _TIMEOUT,
            "socket_connect_timeout": _TIMEOUT,
            **location.sentinel_options,
        }
        super().__init__(location.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]

    async def discover_master(self, service_name: str) -> HostPort:
        """Return the address of the primary. Raises MasterNotFoundError while no Sentinel knows a healthy one."""
        asking = (_ask(sentinel, service_name) for sentinel in self.sentinels)
        found = await answers(asking, lambda answer: isinstance(answer, dict), _TIMEOUT, _SECOND_OPINION)
        states = [answer for answer in found if isinstance(answer, dict)]
        if any(_FAILING_OVER in state["flags"] for state in states):
            raise MasterNotFoundError(f"a fail-over of {service_name!r} is under way")
        if not states:
            problems = "; ".join(map(str, found)) or f"no answer within {_TIMEOUT:g} s"
            raise MasterNotFoundError(f"no Sentinel knows a primary for {service_name!r} ({problems})")
        latest = max(states, key=lambda state: int(state["config-epoch"]))
        if not self.check_master_state(latest, service_name):
            raise MasterNotFoundError(f"the Sentinels consider {latest['ip']}:{latest['port']} down")
        return latest["ip"], int(latest["port"])

    async def announce(self, service_name: str, failing_over: Callable[[], None]) -> None:
        """Call ``failing_over`` whenever a Sentinel begins a fail-over of a service, until cancelled."""
        await asyncio.gather(*(_listen(sentinel, service_name, failing_over) for sentinel in self.sentinels))


async def _ask(sentinel: Redis, service: str) -> dict[str, Any] | str:
    """Return what a Sentinel knows of a service, or why it does not answer."""
    try:
        masters: Any = await sentinel.sentinel_masters()
    except Exception as error:  # noqa: BLE001 also uvloop's RuntimeError, and replies that no Sentinel gives
        return str(error) or type(error).__name__
    state: dict[str, Any] | None = masters.get(service)
    return f"a Sentinel watches {', '.join(masters) or 'nothing'}" if state is None else state


async def _listen(sentinel: Redis, service: str, failing_over: Callable[[], None]) -> None:
    while True:
        try:
            async with sentinel.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(*_ANNOUNCEMENTS)
                while True:
                    message = await channel.get_message(timeout=_SILENCE)
                    if message is None:
                        await channel.ping()  # raises if the connection has ended
                    elif message["type"] == "message" and service.encode() in message["data"].split():
                        failing_over()
        except Exception as error:  # any: without this task a planned fail-over loses what the old primary takes
            if not isinstance(error, (RedisError, OSError)):  # else the Sentinel is away
                _logger.exception("sentinel.listening_failed")
            await asyncio.sleep(_LISTEN_AGAIN)
