"""When each provider takes a callback for acknowledged, and what it does about the others: a table of facts.

Pauses are in seconds, before the first retry and each one after it. What a provider does not publish is assumed, and
says so. The documents are named in ``receiver/providers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
#: Seconds to wait for an answer where a provider does not say how long it does.
_ANSWER_TIMEOUT: Final = 5.0
_SUCCESSFUL: Final = range(200, 300)
_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
ACKNOWLEDGED: Final = "acknowledged"


def _outcome(status: int, _body: bytes) -> str:
    """Tell an ack by the status alone: 2xx."""
    return ACKNOWLEDGED if status in _SUCCESSFUL else f"HTTP {status}"


def _result(member: str, word: str, accepted: Callable[[int], bool]) -> Callable[[int, bytes], str]:
    """Return how to tell an ack by 2xx and a number in a JSON object."""

    def outcome(status: int, body: bytes) -> str:
        if status not in _SUCCESSFUL:
            return f"HTTP {status}"
        try:
            number = msgspec.json.decode(body, type=dict[str, object]).get(member)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            number = None
        if not isinstance(number, int) or isinstance(number, bool):
            return f"HTTP {status} without a {word}"
        return ACKNOWLEDGED if accepted(number) else f"HTTP {status}, {word} {number}"

    return outcome


def _body(*texts: bytes, any_status: bool = False) -> Callable[[int, bytes], str]:
    """Return how to tell an ack by its body; with ``any_status`` by nothing else."""

    def outcome(status: int, body: bytes) -> str:
        successful = status in _SUCCESSFUL
        if body in texts and (successful or any_status):
            return ACKNOWLEDGED
        return f"HTTP {status} without {texts[0].decode()}" if successful else f"HTTP {status}"

    return outcome


def _always(_status: int) -> bool:
    return True


def _never(_status: int) -> bool:
    return False


def _without_answer(status: int) -> bool:
    return not status


def _after_5xx(status: int) -> bool:
    return not status or status >= _SERVER_ERROR


def _after_429_or_5xx(status: int) -> bool:
    return _after_5xx(status) or status == _TOO_MANY


class Behaviour(NamedTuple):
    """What a provider does with an answer."""

    #: What an answer means, in words that can be counted: ACKNOWLEDGED, or why not.
    outcome: Callable[[int, bytes], str] = _outcome
    #: Pauses before retries, as long as there is no ack.
    pauses: tuple[float, ...] = ()
    #: Whether a callback is sent again after this status; 0 is no answer.
    repeats: Callable[[int], bool] = _always
    #: Seconds to wait for an answer.
    timeout: float = _ANSWER_TIMEOUT
    #: Pauses before retries of a reply, where they are others.
    reply_pauses: tuple[float, ...] | None = None

    def at_most(self, retries: int | None) -> Behaviour:
        """Return the same with no more than so many retries; None stands for the provider's own number."""
        replies = None if self.reply_pauses is None else self.reply_pauses[:retries]
        return self._replace(pauses=self.pauses[:retries], reply_pauses=replies)


BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    # Two more; when is not published.
    "tencent": Behaviour(_result("result", "result", lambda number: number == 0), (_MINUTE, _MINUTE)),
    # 200 and a numeric code. Patience is that of the voice product, which pushes in the same way.
    "aliyun": Behaviour(_result("code", "code", _always), (_MINUTE, 5 * _MINUTE, 10 * _MINUTE), timeout=0.7),
    # The answer is not looked at, and nothing is sent again: what is refused is lost.
    "huawei-msgsms": Behaviour(repeats=_never),
    # Below 500 is never sent again. Six retries; when depends on SMN's queue, and is assumed.
    "huawei-smn": Behaviour(pauses=(_MINUTE,) * 6, repeats=_after_5xx),
    # Once more, and only when there was no connection, all within 15 s.
    "twilio": Behaviour(pauses=(1.0,), repeats=_without_answer, timeout=15),
    # Again and again for 24 hours; when is assumed.
    "vonage": Behaviour(pauses=(_HOUR,) * 24),
    # After 1 min + n² min, for some days (not found in a document).
    "infobip": Behaviour(pauses=tuple(_MINUTE * (1 + n * n) for n in range(20))),
    # Doubling from 5 s to 22 h 45 min.
    "sinch": Behaviour(pauses=tuple(5.0 * 2**n for n in range(15)), repeats=_after_429_or_5xx),
    # Three attempts; when is assumed. Then the failover URL, which is another URL.
    "telnyx": Behaviour(pauses=(_MINUTE, _MINUTE), timeout=2),
    # 200 to 499 is never sent again. The default policy: three retries, 20 s apart.
    "amazon-sns": Behaviour(pauses=(20.0,) * 3, repeats=_after_5xx, timeout=15),
    # The body counts, whatever the status.
    "yunpian": Behaviour(_body(b"SUCCESS", b"0", any_status=True), (5 * _MINUTE,) * 3, reply_pauses=(_MINUTE,) * 5),
    # Three retries (not found in a document).
    "plivo": Behaviour(pauses=(_MINUTE, 2 * _MINUTE, 4 * _MINUTE)),
    # Some hours of attempts; when is assumed. Incoming messages want OK, reports 2xx: our ack is both.
    "messagebird": Behaviour(_body(b"OK"), (_HOUR,) * 4),
    # Not published: assumed to send once.
    "africastalking": Behaviour(),
    # None unless http-request-retry is set.
    "kannel": Behaviour(timeout=240),
}
