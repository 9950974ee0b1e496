"""Errors, each with its code, its HTTP status, and whether a retry can help.

The code is also the label in logs and metrics. Only the web layer turns errors into responses.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


#: Problems listed in one response, and characters of each: a problem may quote the request.
_MAX_PROBLEMS: Final = 10
_MAX_PROBLEM: Final = 500


def summary(problems: Iterable[str]) -> str:
    """Return the first problems in one line, and the number of the others. The result is always short."""
    rest = iter(problems)
    listed = [_shortened(problem) for problem in islice(rest, _MAX_PROBLEMS)]
    more = sum(1 for _ in rest)
    return "; ".join(listed) + (f"; and {more} more" if more else "")


def _shortened(problem: str) -> str:
    return problem if len(problem) <= _MAX_PROBLEM else f"{problem[:_MAX_PROBLEM]}…"


class ReceiverError(Exception):
    """An error with a response. The message tells the caller what is wrong and where."""

    code: ClassVar[str] = "internal"
    status: int = 500
    #: Seconds after which a retry may help; None if it cannot.
    retry_after: int | None = None


class InvalidCallbackError(ReceiverError):
    """The callback has no valid item: it is invalid JSON, or every item failed validation."""

    code = "invalid"
    status = 400


class UnauthorizedError(ReceiverError):
    """The key in the callback URL is missing or wrong."""

    code = "unauthorized"
    status = 401


class RateLimitedError(ReceiverError):
    """The credentials are wrong, after too many wrong ones from the same client. Right ones are still accepted."""

    code = "rate_limited"
    status = 429

    def __init__(self, retry_after: int, reason: str) -> None:
        """``retry_after`` is the time in seconds until wrong credentials get 401 again."""
        super().__init__(f"{reason}; too many wrong ones came from this address, so retry later or with the right one")
        self.retry_after = retry_after


class BadSignatureError(ReceiverError):
    """The request has no valid signature of the provider. A retry does not help."""

    code = "bad_signature"
    status = 401


class TooManyBadSignaturesError(RateLimitedError):
    """As ``RateLimitedError``, for wrong signatures: the outcome says so, whatever the status of the answer."""

    code = BadSignatureError.code


class UnverifiableError(ReceiverError):
    """The signature cannot be checked now: a certificate could not be fetched, for example."""

    code = "unverifiable"
    status = 503
    retry_after = 5


class ForbiddenError(ReceiverError):
    """The client may not use the project: its address is not allowed, or a web page sent the request."""

    code = "forbidden"
    status = 403


class NotFoundError(ReceiverError):
    """The project, provider or path does not exist."""

    code = "not_found"
    status = 404


class MethodNotAllowedError(ReceiverError):
    """The path exists, but not with this method."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, method: str, allowed: str) -> None:
        """Take the allowed methods as one text, separated by commas."""
        super().__init__(f"{method} is not allowed here; use {allowed}")
        self.allowed = allowed


class ReadTimeoutError(ReceiverError):
    """The body did not arrive in time."""

    code = "read_timeout"
    status = 408
    retry_after = 1


class TooLargeError(ReceiverError):
    """The decompressed body, or the number of its items, exceeds the limit."""

    code = "too_large"
    status = 413


class UnavailableError(ReceiverError):
    """Neither Redis nor the spool can store the events now. Nothing was acknowledged."""

    code = "unavailable"
    status = 503
    retry_after = 2


class OverloadedError(UnavailableError):
    """Too many bytes or events are in flight. Nothing was acknowledged."""

    code = "overloaded"
    retry_after = 1


class ForeignError(ReceiverError):
    """An error of the HTTP library, with its status."""

    code = "http"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class SettingsError(ReceiverError):
    """The configuration is invalid. Each of ``problems`` names the place, the error and the fix."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        """``problems`` are all problems found, in the order of the file."""
        super().__init__("\n".join(problems))
        self.problems = problems

    @classmethod
    def cannot_write(cls, folder: Path, error: Exception) -> SettingsError:
        """Return the error for an unwritable folder below RECEIVER_DATA_DIR."""
        reason = "it is a file" if isinstance(error, FileExistsError) else getattr(error, "strerror", None) or error
        fix = "set RECEIVER_DATA_DIR to a folder of the service's own user, or give this one to it with chown -R."
        return cls([f"cannot write to {folder}: {reason}; {fix}"])


class EmbeddedError(ReceiverError):
    """The embedded Valkey could not be started. The message includes the fix."""

    code = "embedded"


class SmnError(ReceiverError):
    """An error in the format of SMN's API.

    Codes: https://support.huaweicloud.com/api-smn/smn_api_66000.html. Body: ``request_id``, ``code``, ``message``.
    """

    code = "smn"

    def __init__(self, status: int, smn_code: str, message: str) -> None:
        """``smn_code`` is a code such as ``SMN.0100``."""
        super().__init__(message)
        self.status = status
        self.smn_code = smn_code


class GatewayError(ReceiverError):
    """Authentication failed, in the format of SMN's gateway (``error_code`` APIG.0301)."""

    code = "gateway"
    status = 401
    gateway_code: ClassVar[str] = "APIG.0301"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Incorrect IAM authentication information: {reason}")


class GatewayRateLimitedError(GatewayError):
    """Authentication failed too often for the same client. APIG.0308 is the gateway's throttling."""

    status = 429
    gateway_code = "APIG.0308"

    def __init__(self, reason: str, retry_after: int) -> None:
        """``retry_after`` is the time in seconds until wrong credentials get 401 again."""
        super().__init__(f"{reason}; too many wrong ones came from this address")
        self.retry_after = retry_after


#: Reasons of WriteFailedError that pass. The primary of a topic is away and comes back; its slot has moved, so the same
#: entries may be given to another primary at once; or the slot moves, or its cluster has no primary for it now.
AWAY: Final = "away"
MOVED: Final = "Moved"
SLOT_MOVES: Final = frozenset({MOVED, "Ask", "TryAgain", "ClusterDown"})


class WriteFailedError(Exception):
    """A write did not store all entries. Some may be stored: write all of them elsewhere.

    It never reaches a caller: delivery falls back to the spool, or raises UnavailableError.
    """

    def __init__(self, reason: str, message: str, topic: str | None = None) -> None:
        """``reason`` is a metric label, ``message`` for the log. ``topic`` is given if only that topic failed."""
        super().__init__(message)
        self.reason = reason
        self.topic = topic

    @property
    def passes(self) -> bool:
        """Whether the same write may succeed soon without a fix: its primary is away, or its slot moves."""
        return self.reason == AWAY or self.reason in SLOT_MOVES


#: All outcomes of a callback: ``ok`` for the ack, or an error's code. Each has a counter.
OUTCOMES: Final = (
    "ok",
    *(
        error.code
        for error in (
            ReceiverError,
            InvalidCallbackError,
            UnauthorizedError,
            RateLimitedError,
            BadSignatureError,
            UnverifiableError,
            ForbiddenError,
            NotFoundError,
            MethodNotAllowedError,
            ReadTimeoutError,
            TooLargeError,
            UnavailableError,
            OverloadedError,
            ForeignError,
        )
    ),
)
