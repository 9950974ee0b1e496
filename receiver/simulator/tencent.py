"""Invented traffic in Tencent's own form: batches of status reports, and replies one by one.

https://www.tencentcloud.com/document/product/382/59178 (status), …/59179 (reply).
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_BEIJING: Final = timezone(timedelta(hours=8))
#: Where the clock of a seeded run stands, so that the same seed makes the same bytes.
_SEEDED_NOW: Final = datetime(2026, 1, 1, 4, tzinfo=UTC).timestamp()
_DELIVERED: Final = ("DELIVRD", "用户短信送达成功")
#: Codes of https://cloud.tencent.com/document/product/382/59177, with a rough weight of how often they are seen.
_FAILURES: Final = (
    ("MK:0001", "空号", 20),
    ("UNDELIV", "空号/停机/关机", 16),
    ("EXPIRED", "短信有效期过期", 8),
    ("MK:0005", "号码状态异常", 8),
    ("MI:0024", "手机关机或不在服务区", 7),
    ("MC:0055", "手机终端无应答", 6),
    ("-43", "号码状态异常", 5),
    ("12", "关机或停机", 5),
    ("UNDELIV_601", "号码不可达", 5),
    ("EXPIRED_614", "短信有效期过期", 4),
    ("MX:0003", "同一签名达到单个号码日发送上限", 3),
    ("MX:0012", "号码已退订", 3),
    ("REJECTD", "短信被拒绝", 3),
    ("MOBILE BLACK", "全局黑名单", 2),
    ("BWLIST _006", "网关黑名单", 2),
    ("其他", "运营商未返回原因", 1),
)
_FAILURE_WEIGHTS: Final = [weight for _, _, weight in _FAILURES]
_MOBILE_PREFIXES: Final = ("134", "138", "139", "150", "159", "186", "189", "199")
_REPLIES: Final = ("TD", "T", "1", "2", "Y", "退订", "收到 谢谢", "好的👌", "N")
_SIGNS: Final = ("腾讯云", "示例商城", "示例快递")
#: Numbers of subscribers behind a prefix, and a step that meets all of them before it meets one again.
_SUBSCRIBERS: Final = 10**8
_STEP: Final = 61_803_399

Item = dict[str, Any]


class Callback(NamedTuple):
    """One callback: its body, what a checker looks for when it was acknowledged, and how many items it has."""

    body: bytes
    sids: list[str]
    items: int
    invalid: int


class Shares(NamedTuple):
    """How the traffic is made up, each from 0 to 1."""

    fail: float  # of the reports
    reply: float  # of the callbacks
    invalid: float  # of the items


def _without_mobile(item: Item) -> None:
    del item["mobile"]


def _number_as_mobile(item: Item) -> None:
    item["mobile"] = int(item["mobile"])


def _another_status(item: Item) -> None:
    item["report_status"] = "MAYBE"


def _wrong_date(item: Item) -> None:
    item["user_receive_time"] = "yesterday"


_MISTAKES: Final[tuple[Callable[[Item], None], ...]] = (
    _without_mobile,
    _number_as_mobile,
    _another_status,
    _wrong_date,
)


class Traffic:
    """An endless supply of callbacks. With a seed it is the same supply each time, byte for byte."""

    def __init__(self, batch: int, shares: Shares, seed: int | None) -> None:
        """Take the number of reports in a batch, and what the batches are made of."""
        self._batch = batch
        self._shares = shares
        self._clock = time.time if seed is None else lambda: _SEEDED_NOW
        self._random = random.Random(seed)  # noqa: S311 invented traffic is no secret
        self._subscriber = self._random.randrange(_SUBSCRIBERS)

    def next(self) -> Callback:
        """Invent the next callback."""
        if self._random.random() < self._shares.reply:
            return Callback(msgspec.json.encode(self._reply()), [], 1, 0)
        items = [self._report() for _ in range(self._batch)]
        invalid = self._spoil(items)
        sids = [item["sid"] for item, bad in zip(items, invalid, strict=True) if not bad]
        return Callback(msgspec.json.encode(items), sids, len(items), sum(invalid))

    def _report(self) -> Item:
        failed = self._random.random() < self._shares.fail
        code, about = self._failure() if failed else _DELIVERED
        received = datetime.fromtimestamp(self._clock() - self._random.expovariate(1 / 8), _BEIJING)
        return {
            "user_receive_time": received.strftime("%Y-%m-%d %H:%M:%S"),
            "nationcode": "86",
            "mobile": self._mobile(),
            "report_status": "FAIL" if failed else "SUCCESS",
            "errmsg": code,
            "description": about,
            "sid": self._sid(),
        }

    def _reply(self) -> Item:
        return {
            "extend": f"{self._random.randrange(100):02d}",
            "mobile": self._mobile(),
            "nationcode": "86",
            "sign": self._random.choice(_SIGNS),
            "text": self._random.choice(_REPLIES),
            "time": int(self._clock()),
        }

    def _failure(self) -> tuple[str, str]:
        ((code, about, _),) = self._random.choices(_FAILURES, _FAILURE_WEIGHTS)
        return code, about

    def _mobile(self) -> str:
        """Return a number that the run has not used: two equal replies would rightly be one event."""
        self._subscriber = (self._subscriber + _STEP) % _SUBSCRIBERS
        return f"{self._random.choice(_MOBILE_PREFIXES)}{self._subscriber:08d}"

    def _sid(self) -> str:
        """Return an id in one of the two forms that Tencent gives out; both are long enough to be unique."""
        if self._random.getrandbits(1):
            return f"5000:{self._random.randrange(10**27, 10**28)}"
        return f"14:{self._random.getrandbits(136):034x}"

    def _spoil(self, items: list[Item]) -> list[bool]:
        """Spoil a share of the items. One of several stays good, for a callback without a good item is refused."""
        spared = self._random.randrange(len(items)) if len(items) > 1 else None
        bad = [index != spared and self._random.random() < self._shares.invalid for index in range(len(items))]
        for item, is_bad in zip(items, bad, strict=True):
            if is_bad:
                self._random.choice(_MISTAKES)(item)
        return bad
