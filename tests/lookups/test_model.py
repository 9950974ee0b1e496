"""The service answers as a plain list-and-sort would, whatever comes in whatever order."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from itertools import count, permutations
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from receiver.lookups.messages import Messages, SentMessage
from receiver.lookups.reports import Report, ReportQuery, Reports, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NOW = int(time.time() * 1000) - 3_600_000
DEFAULT = "default-sign"

ids = st.sampled_from(["a", "B", "b", "5000:1045710669157053657849499619", "ä", " x ", "z" * 128, "0", "00"])
signs = st.sampled_from([None, "s1", "s2", DEFAULT])

#: Numbers as they are told, each with its country code and national number as E.164 has them.
NUMBERS = {
    ("86", "13800138000"): ("86", "13800138000"),
    ("86", "8613800138000"): ("86", "13800138000"),
    (None, "8613800138000"): ("86", "13800138000"),
    (None, "+8613800138000"): ("86", "13800138000"),
    ("+86", "0086 138-0013-8000"): ("86", "13800138000"),
    (None, "13800138000"): (None, "13800138000"),
    ("1", "2125551234"): ("1", "2125551234"),
    ("1", "12125551234"): ("1", "2125551234"),
    ("44", "2125551234"): ("44", "2125551234"),
    (None, "2125551234"): (None, "2125551234"),
    ("86", "13xxxxxxxxx"): ("86", "13xxxxxxxxx"),
    ("x", "11"): ("x", "11"),
}
told = st.sampled_from(list(NUMBERS))
asked = st.sampled_from(
    [
        *("13800138000", "8613800138000", "+8613800138000", "008613800138000"),
        *("2125551234", "12125551234", "+12125551234", "+44 2125551234"),
        *("13xxxxxxxxx", "11", "+11", "+8611"),
    ]
)
times = st.integers(NOW, NOW + 4)
few = st.sampled_from([None, 1, 2])
names = st.sampled_from([None, "x", "y"])


def _sent(number: tuple[str | None, str], **more: Any) -> SentMessage:
    return SentMessage(nation_code=number[0], mobile=number[1], **more)


def _came(number: tuple[str | None, str | None], **more: Any) -> Status:
    return Status(nation_code=number[0], mobile=number[1], **more)


def _sent_to(numbers: st.SearchStrategy[tuple[str | None, str]]) -> st.SearchStrategy[SentMessage]:
    return st.builds(
        _sent,
        message_id=ids,
        message=st.just("text"),
        number=numbers,
        sign_id=signs,
        extend_code=names,
        submit_time=times,
        fee_num=few,
    )


sent = _sent_to(told)
statuses = st.builds(
    _came,
    message_id=ids,
    status=st.sampled_from([0, 1, 2]),
    deliver_time=times,
    status_desc=names,
    sign_id=signs,
    fee_num=few,
    extend_code=names,
    submit_time=st.none() | times,
    number=st.just((None, None)) | told,
)
queries = st.builds(
    ReportQuery,
    sign_id=st.sampled_from(["s1", "s2", DEFAULT, "unknown"]),
    start_ms=times,
    end_ms=st.integers(NOW, NOW + 6),
    message_id=st.none() | ids,
    mobile=st.none() | asked,
    status=st.sampled_from([None, 0, 1, 2]),
    offset=st.integers(0, 12),
    limit=st.integers(1, 12),
)
SHARED = ("sign_id", "fee_num", "extend_code", "submit_time")
Number = tuple[str | None, str]


@dataclass
class Model:
    """What each message was registered with, and every status that came for it."""

    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    came: dict[str, list[Status]] = field(default_factory=dict)

    def take(self, step: SentMessage | Status) -> None:
        if isinstance(step, Status):
            self.came.setdefault(step.message_id, []).append(step)
            return
        known = self.sent.setdefault(step.message_id, {})
        told = {name: getattr(step, name) for name in SHARED}
        known.update({name: value for name, value in told.items() if value is not None})
        known.setdefault("fee_num", 1)
        self._register_number(known, step)

    def _register_number(self, known: dict[str, Any], step: SentMessage) -> None:
        """Keep a known country, also where the new number names none or cannot have one."""
        code, mobile = NUMBERS.get((step.nation_code, step.mobile), (step.nation_code, step.mobile))  # else canonical
        before = known.get("number")
        if before is None or not _has_country(before):
            known["number"] = code, mobile
        elif _has_country((code or before[0], mobile)):
            known["number"] = code or before[0], mobile

    def number(self, message_id: str) -> Number | tuple[None, None]:
        """Return the registered number, or the reported one where only that has a country."""
        mine = self.sent.get(message_id, {}).get("number")
        came = self.came.get(message_id, [])
        theirs = [NUMBERS[step.nation_code, step.mobile] for step in came if step.mobile is not None]
        best = max(theirs, key=lambda number: (_has_country(number), number[1], number[0] or ""), default=None)
        if mine is None or (best is not None and _has_country(best) and not _has_country(mine)):
            return best or (None, None)
        return mine

    def report(self, message_id: str) -> Report:
        values: dict[str, Any] = dict.fromkeys(SHARED)
        values |= {"status": 0, "status_desc": None, "deliver_time": None}
        came = self.came.get(message_id, [])
        came = [status for status in came if status.status] or came  # a final one wins over all that are not
        if came:
            best = max(map(_rank, came))
            equals = [status for status in came if _rank(status) == best]
            values |= {"status": equals[0].status, "deliver_time": equals[0].deliver_time}
            values["status_desc"] = equals[0].status_desc if equals[0].status else None
            for name in SHARED:
                told = [getattr(status, name) for status in equals if getattr(status, name) is not None]
                values[name] = max(told, default=None)
        values |= {name: value for name, value in self.sent.get(message_id, {}).items() if name != "number"}
        values["nation_code"], values["mobile"] = self.number(message_id)
        return Report(message_id=message_id, **{**values, "sign_id": values["sign_id"] or DEFAULT})

    def find(self, query: ReportQuery) -> list[Report]:
        every = [self.report(message_id) for message_id in self.sent.keys() | self.came.keys()]
        fitting = sorted((report for report in every if _fits(report, query)), key=_order, reverse=True)
        return [_shown(report) for report in fitting[query.offset : query.offset + query.limit]]


class RecipientsModel(Model):
    """The same where recipients share ids: what is told of a message is told of one of its numbers."""

    def take(self, step: SentMessage | Status) -> None:
        _, mobile = NUMBERS[step.nation_code, step.mobile]
        step_id = f"{step.message_id}\0{mobile}"
        super().take(
            step._replace(message_id=step_id) if isinstance(step, Status) else replace(step, message_id=step_id)
        )


def _shown(report: Report) -> Report:
    """Return a report as it is answered: with the id of its message, and a time only of a final status."""
    deliver_time = report.deliver_time if report.status else None
    return report._replace(message_id=_message_id(report), deliver_time=deliver_time)


def _message_id(report: Report) -> str:
    return report.message_id.partition("\0")[0]


def _rank(status: Status) -> tuple[int, int, str]:
    return status.deliver_time, -status.status, (status.status_desc or "") if status.status else ""


def _time(report: Report) -> int:
    return (report.deliver_time if report.status else report.submit_time or report.deliver_time) or 0


def _order(report: Report) -> tuple[int, bytes]:
    return _time(report), report.message_id.encode()


def _has_country(number: Number) -> bool:
    return number[0] in {"1", "44", "86"} and number[1].isdigit()


def _means(asked: str, report: Report) -> bool:
    """Tell whether a report's number may be spelled so. Without a country it may be of any."""
    if report.mobile is None:
        return False
    text = asked.replace(" ", "")
    if _has_country((report.nation_code, report.mobile)):
        whole = f"{report.nation_code}{report.mobile}"
        return text in {report.mobile, whole, f"+{whole}", f"00{whole}"}
    whole = text.removeprefix("+").removeprefix("00")
    beginnings = ("", "1", "44", "86") if len(whole) > 4 else ("",)
    return asked == report.mobile or whole in [f"{code}{report.mobile}" for code in beginnings]


def _fits(report: Report, query: ReportQuery) -> bool:
    return (
        report.sign_id == query.sign_id
        and query.start_ms <= _time(report) <= query.end_ms
        and query.message_id in {None, _message_id(report)}
        and (query.mobile is None or _means(query.mobile, report))
        and query.status in {None, report.status}
    )


class Service:
    """The real thing, in a project of its own."""

    numbers = count()

    def __init__(self, redis: Redis) -> None:
        self.project = f"model{next(self.numbers)}"
        self.messages, self.reports = Messages(redis), Reports(redis)

    async def take(self, steps: Iterable[SentMessage | Status]) -> None:
        for step in steps:
            if isinstance(step, Status):
                await self.reports.apply(self.project, [step])
            else:
                await self.messages.register(self.project, [step])

    async def find(self, query: ReportQuery) -> list[Report]:
        return await self.reports.find(self.project, query, DEFAULT)


#: As NUMBERS, but each national number has one country: only then the order of equal times is told.
shared_numbers = st.sampled_from([number for number in NUMBERS if number not in {("44", "2125551234"), (None, "11")}])
shared_sent = _sent_to(shared_numbers)
shared_statuses = st.builds(
    _came,
    message_id=ids,
    status=st.sampled_from([0, 1, 2]),
    deliver_time=times,
    status_desc=names,
    sign_id=signs,
    number=shared_numbers,
    shared_id=st.just(value=True),
)
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@quick
@given(steps=st.lists(sent | statuses | queries, max_size=40), last=st.lists(queries, min_size=3, max_size=3))
def test_answers_are_those_of_a_list(lookups_port: int, steps: list[Any], last: list[ReportQuery]) -> None:
    async def check() -> None:
        async with Redis(port=lookups_port) as redis:
            model, service = Model(), Service(redis)
            for step in [*steps, *last]:
                if isinstance(step, ReportQuery):
                    assert await service.find(step) == model.find(step)
                else:
                    model.take(step)
                    await service.take([step])

    asyncio.run(check())


@quick
@given(
    steps=st.lists(shared_sent | shared_statuses | queries, max_size=40),
    last=st.lists(queries, min_size=3, max_size=3),
)
def test_each_recipient_that_shares_an_id_has_a_report(
    lookups_port: int, steps: list[Any], last: list[ReportQuery]
) -> None:
    """In a project that has received such a report before: with and without a number, page by page."""

    async def check() -> None:
        async with Redis(port=lookups_port) as redis:
            model, service = RecipientsModel(), Service(redis)
            await service.take([Status("before", 1, NOW - 10, mobile="1", shared_id=True)])
            for step in [*steps, *last]:
                if isinstance(step, ReportQuery):
                    assert await service.find(step) == model.find(step)
                else:
                    model.take(step)
                    await service.take([step])

    asyncio.run(check())


@quick
@given(
    registrations=st.lists(shared_sent, min_size=1, max_size=6),
    came=st.lists(shared_statuses, max_size=4),
    shuffle=st.randoms(use_true_random=False),
    last=st.lists(queries, min_size=3, max_size=3),
)
def test_registrations_before_the_first_report_that_shares_its_id(
    lookups_port: int, registrations: list[SentMessage], came: list[Status], shuffle: Any, last: list[ReportQuery]
) -> None:
    """In a project that has not: in the end it is as if it had been known all the while."""

    async def check() -> None:
        async with Redis(port=lookups_port) as redis:
            model, service = RecipientsModel(), Service(redis)
            steps: list[Any] = [*registrations, *came]
            shuffle.shuffle(steps)
            # Each message gets a report in the end, which tells what its id is.
            steps += [
                Status(step.message_id, 1, NOW, nation_code=step.nation_code, mobile=step.mobile, shared_id=True)
                for step in registrations
            ]
            for step in steps:
                model.take(step)
            await service.take(steps)
            everything = ReportQuery(sign_id=DEFAULT, start_ms=0, end_ms=NOW + 100)
            for query in [everything, replace(everything, sign_id="s1"), replace(everything, sign_id="s2"), *last]:
                assert await service.find(query) == model.find(query)

    asyncio.run(check())


@quick
@given(
    shared=st.booleans(),
    registration=sent,
    came=st.lists(statuses, min_size=1, max_size=3),
    shuffle=st.randoms(use_true_random=False),
)
def test_every_order_of_arrival_ends_in_the_same_state(  # noqa: PLR0913, PLR0917 hypothesis passes them
    lookups_port: int,
    snapshot: Callable[..., Any],
    shared: bool,  # noqa: FBT001 hypothesis passes it
    registration: SentMessage,
    came: list[Status],
    shuffle: Any,
) -> None:
    # One message and one signature, so that even the numbers of signatures must be the same.
    steps = [registration, *came]
    steps = [
        _of_one_message(step, registration if shared else None)
        if isinstance(step, Status)
        else replace(step, message_id="m", sign_id="s1")
        for step in steps
    ]
    orders = list(permutations(steps))

    async def check() -> None:
        async with Redis(port=lookups_port) as redis:
            ends = []
            for order in shuffle.sample(orders, min(4, len(orders))):
                service = Service(redis)
                await service.take([*order, *order])
                ends.append(await snapshot(redis, f"{{lookups:{service.project}}}"))
            assert all(end == ends[0] for end in ends)

    asyncio.run(check())


def _of_one_message(step: Status, shared: SentMessage | None) -> Status:
    """Return a status of message m, whose id the recipient of a registration may share with others."""
    step = step._replace(message_id="m", sign_id=step.sign_id and "s1")
    if shared is None:
        return step
    return step._replace(nation_code=shared.nation_code, mobile=shared.mobile, shared_id=True)


@settings(quick, max_examples=15)
@given(
    data=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2]), st.booleans()), min_size=50, max_size=400),
    offsets=st.lists(st.integers(0, 420), min_size=5, max_size=5),
)
def test_pages_are_exact_among_many_equal_times(
    lookups_port: int, data: list[tuple[int, int, bool]], offsets: list[int]
) -> None:
    """Six windows (three statuses, with and without a signature) are merged by rank."""

    async def check() -> None:
        async with Redis(port=lookups_port) as redis:
            model, service = Model(), Service(redis)
            registered = [
                SentMessage(
                    message_id=f"{i:x}",
                    message="m",
                    mobile=str(i % 2),
                    submit_time=NOW + at,
                    sign_id=DEFAULT if own else None,
                )
                for i, (at, _, own) in enumerate(data)
            ]
            came = [Status(f"{i:x}", status, NOW + at) for i, (at, status, _) in enumerate(data) if status]
            for step in [*registered, *came]:
                model.take(step)
            await service.reports.apply(service.project, came)
            await service.messages.register(service.project, registered)
            query = ReportQuery(sign_id=DEFAULT, start_ms=NOW, end_ms=NOW + 3)
            for offset in offsets:
                for mobile in (None, "1"):
                    page = replace(query, offset=offset, mobile=mobile, limit=7)
                    assert await service.find(page) == model.find(page)

    asyncio.run(check())
