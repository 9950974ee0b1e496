"""Invented traffic: what every provider's has in common. A ``Style`` says how one provider writes it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Item = dict[str, Any]
#: Where the clock of a seeded run stands, so that the same seed makes the same bytes.
_SEEDED_NOW: Final = datetime(2026, 1, 1, 4, tzinfo=UTC).timestamp()
CHINA: Final = ("134", "138", "139", "150", "159", "186", "189", "199")
#: Numbers of subscribers behind a prefix, and a step that meets all of them before it meets one again.
_SUBSCRIBERS: Final = 10**8
_STEP: Final = 61_803_399
_TEXTS: Final = ("STOP", "1", "2", "Y", "yes please", "Grüße & mehr", "退订", "好的👌")
FORM: Final = "application/x-www-form-urlencoded"


class State(Enum):
    """What a report says of its message."""

    DELIVERED = auto()
    FAILED = auto()
    PENDING = auto()


class Request(NamedTuple):
    """A request as it goes over the wire."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


#: Signs a request at a time, in seconds since the epoch.
Signer = Callable[[Request, float], Request]


class Wire(NamedTuple):
    """What a provider sends to a URL; ``query`` is added to that of the URL."""

    body: bytes = b""
    content_type: str = ""
    method: str = "POST"
    query: str = ""


class Callback(NamedTuple):
    """One callback: what is sent, the message ids to look for when it was acknowledged, and how many items it has."""

    wire: Wire
    ids: Sequence[str]
    items: int
    invalid: int = 0
    pending: int = 0
    is_reply: bool = False

    @property
    def body(self) -> bytes:
        """The body alone."""
        return self.wire.body

    def request(self, url: str) -> Request:
        """Return the request to a URL, not signed."""
        body, content_type, method, query = self.wire
        headers = {"Content-Type": content_type} if content_type else {}
        if query:
            url += ("&" if "?" in url else "?") + query
        return Request(method, url, headers, body)


class Shares(NamedTuple):
    """How the traffic is made up, each from 0 to 1."""

    fail: float  # of the reports
    reply: float  # of the callbacks
    invalid: float  # of the items
    pending: float = 0.0  # of the reports that did not fail


class Invention:
    """Invents numbers, ids and times. With a seed it invents the same ones each time."""

    def __init__(self, seed: int | None) -> None:
        """Begin at a random subscriber."""
        self.clock = time.time if seed is None else lambda: _SEEDED_NOW
        self.random = random.Random(seed)  # noqa: S311 invented traffic is no secret
        self._subscriber = self.random.randrange(_SUBSCRIBERS)

    def mobile(self, prefixes: Sequence[str] = CHINA) -> str:
        """Return a number that the run has not used: two equal replies would rightly be one event."""
        self._subscriber = (self._subscriber + _STEP) % _SUBSCRIBERS
        return f"{self.random.choice(prefixes)}{self._subscriber:08d}"

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def moment(self) -> datetime:
        """Return a time some seconds ago, in UTC."""
        return datetime.fromtimestamp(self.clock() - self.random.expovariate(1 / 8), UTC)

    def text(self) -> str:
        """Return what a person may write."""
        return self.random.choice(_TEXTS)

    def hex(self, digits: int) -> str:
        """Return an id of hexadecimal digits."""
        return f"{self.random.getrandbits(4 * digits):0{digits}x}"

    def uuid(self) -> str:
        """Return a UUID of version 4."""
        digits = self.hex(32)
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def number(self, digits: int) -> int:
        """Return a number of so many digits."""
        return self.random.randrange(10 ** (digits - 1), 10**digits)


class Style(NamedTuple):
    """How a provider writes its callbacks."""

    report: Callable[[Invention, State], Item]
    reply: Callable[[Invention], Item]
    #: Put reports, or a reply, into a request.
    write_reports: Callable[[list[Item], Invention], Wire]
    write_reply: Callable[[Item, Invention], Wire]
    message_id: Callable[[Item], str]
    #: Each makes a report break the schema.
    mistakes: Sequence[Callable[[Item], None]]
    batches: bool = False


class Traffic:
    """An endless supply of callbacks. With a seed it is the same supply each time, byte for byte."""

    def __init__(self, style: Style, batch: int, shares: Shares, seed: int | None) -> None:
        """Take the number of reports in a batch, for a provider that has batches, and what they are made of."""
        self._style = style
        self._batch = batch if style.batches else 1
        self._shares = shares
        self._invent = Invention(seed)
        self._random = self._invent.random

    def next(self) -> Callback:
        """Invent the next callback."""
        style, invent = self._style, self._invent
        if self._random.random() < self._shares.reply:
            return Callback(style.write_reply(style.reply(invent), invent), [], 1, is_reply=True)
        states = [State.DELIVERED] * self._batch
        items = []
        for index in range(self._batch):
            states[index] = self._state()
            items.append(style.report(invent, states[index]))
        ids = [style.message_id(item) for item in items]
        invalid = self._spoil(items)
        wire = style.write_reports(items, invent)
        valid = [one for one, bad in zip(ids, invalid, strict=True) if not bad]
        pending = sum(state is State.PENDING and not bad for state, bad in zip(states, invalid, strict=True))
        return Callback(wire, valid, len(items), sum(invalid), pending)

    def _state(self) -> State:
        if self._random.random() < self._shares.fail:
            return State.FAILED
        if self._shares.pending and self._random.random() < self._shares.pending:
            return State.PENDING
        return State.DELIVERED

    def _spoil(self, items: list[Item]) -> list[bool]:
        """Spoil a share of the items. One of several stays good, for a callback without a good item is refused."""
        spared = self._random.randrange(len(items)) if len(items) > 1 else None
        bad = [index != spared and self._random.random() < self._shares.invalid for index in range(len(items))]
        for item, is_bad in zip(items, bad, strict=True):
            if is_bad:
                self._random.choice(self._style.mistakes)(item)
        return bad


def form(item: Item, _invent: Invention | None = None) -> Wire:
    """Write parameters as a form."""
    return Wire(urlencode(item).encode(), FORM)


def one_form(items: list[Item], _invent: Invention | None = None) -> Wire:
    """Write the parameters of a single report as a form."""
    return form(items[0])


def json(value: object, _invent: Invention | None = None) -> Wire:
    """Write a value as JSON."""
    return Wire(msgspec.json.encode(value), "application/json")


def without(*names: str) -> list[Callable[[Item], None]]:
    """Return mistakes: an item lacks one of these members."""

    def lacking(name: str) -> Callable[[Item], None]:
        return lambda item: item.pop(name)

    return [lacking(name) for name in names]


def other(name: str, value: object) -> Callable[[Item], None]:
    """Return a mistake: a member has a value that it cannot have."""

    def spoil(item: Item) -> None:
        item[name] = value

    return spoil
