"""Each failure knows its code, its HTTP status, and whether sending again helps.

The code is also the error's label in logs and metrics. Only the web layer turns an error into an answer.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


#: Problems that one answer lists, and characters of each: a problem may quote what was sent.
_MAX_PROBLEMS: Final = 10
_MAX_PROBLEM: Final = 500


def summary(problems: Iterable[str]) -> str:
    """Return the first problems in one line, and how many more there are: an answer is short, whatever was sent."""
    rest = iter(problems)
    listed = [_shortened(problem) for problem in islice(rest, _MAX_PROBLEMS)]
    more = sum(1 for _ in rest)
    return "; ".join(listed) + (f"; and {more} more" if more else "")


def _shortened(problem: str) -> str:
    return problem if len(problem) <= _MAX_PROBLEM else f"{problem[:_MAX_PROBLEM]}…"


class ReceiverError(Exception):
    """A failure that has an answer. The message is for the caller: it says what is wrong and where."""

    code: ClassVar[str] = "internal"
    status: int = 500
    #: Seconds after which sending the same again may help; None when it will not.
    retry_after: int | None = None


class InvalidCallbackError(ReceiverError):
    """No item of the callback could be accepted: it is not JSON, or nothing in it passed the schema."""

    code = "invalid"
    status = 400


class UnauthorizedError(ReceiverError):
    """The key in the callback's URL is missing or not one of the project's keys."""

    code = "unauthorized"
    status = 401


class RateLimitedError(ReceiverError):
    """The credentials are wrong, and the same client has sent too many wrong ones. Right ones are taken."""

    code = "rate_limited"
    status = 429

    def __init__(self, retry_after: int, reason: str) -> None:
        """Take the seconds until the next wrong credentials are answered as such, and what is wrong with them."""
        super().__init__(f"{reason}, as too many from this address were; send the right one")
        self.retry_after = retry_after


class BadSignatureError(ReceiverError):
    """The request does not carry a valid signature of the provider. Sending the same again does not help."""

    code = "bad_signature"
    status = 401


class UnverifiableError(ReceiverError):
    """Whether the signature is valid cannot be told now: a certificate is missing, for example."""

    code = "unverifiable"
    status = 503
    retry_after = 5


class ForbiddenError(ReceiverError):
    """The caller's address is in none of the project's allowed networks."""

    code = "forbidden"
    status = 403


class NotFoundError(ReceiverError):
    """No such project, provider or path."""

    code = "not_found"
    status = 404


class MethodNotAllowedError(ReceiverError):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, method: str, allowed: str) -> None:
        """Take the method that was used, and those that are allowed, separated by commas."""
        super().__init__(f"{method} is not allowed here; use {allowed}")
        self.allowed = allowed


class ReadTimeoutError(ReceiverError):
    """The body did not arrive within the time limit."""

    code = "read_timeout"
    status = 408
    retry_after = 1


class TooLargeError(ReceiverError):
    """The body, counted after decompression, or the number of its items is over the limit."""

    code = "too_large"
    status = 413


class UnavailableError(ReceiverError):
    """Neither Redis nor the spool can take the events now. Nothing was acknowledged."""

    code = "unavailable"
    status = 503
    retry_after = 2


class OverloadedError(UnavailableError):
    """More bytes or events are in flight than the settings allow. Nothing was acknowledged."""

    code = "overloaded"
    retry_after = 1


class ForeignError(ReceiverError):
    """What the HTTP library refused by itself, with its status."""

    code = "http"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class SettingsError(ReceiverError):
    """The configuration is wrong. Each of ``problems`` names a place, what is wrong there, and the mend."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        """Keep the problems, all of those found, in the order of the file."""
        super().__init__("\n".join(problems))
        self.problems = problems

    @classmethod
    def cannot_write(cls, folder: Path, error: Exception) -> SettingsError:
        """Return what to tell about a folder below RECEIVER_DATA_DIR that takes nothing."""
        reason = "it is a file" if isinstance(error, FileExistsError) else getattr(error, "strerror", None) or error
        return cls(
            [f"cannot write to {folder}: {reason}; set RECEIVER_DATA_DIR to a folder of the service's own user."]
        )


class EmbeddedError(ReceiverError):
    """The embedded Valkey could not be started; the message says the mend."""

    code = "embedded"


class SmnError(ReceiverError):
    """An error in the words of SMN's API.

    Codes: https://support.huaweicloud.com/api-smn/smn_api_66000.html. Body: ``request_id``, ``code``, ``message``.
    """

    code = "smn"

    def __init__(self, status: int, smn_code: str, message: str) -> None:
        """Take the HTTP status, a code such as ``SMN.0100``, and the message for the caller."""
        super().__init__(message)
        self.status = status
        self.smn_code = smn_code


class GatewayError(ReceiverError):
    """Authentication failed; in the words of the gateway in front of SMN (``error_code`` APIG.0301)."""

    code = "gateway"
    status = 401
    gateway_code: ClassVar[str] = "APIG.0301"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Incorrect IAM authentication information: {reason}")


class GatewayRateLimitedError(GatewayError):
    """Authentication failed, as it did too often for the same client; APIG.0308 is the gateway's throttling."""

    status = 429
    gateway_code = "APIG.0308"

    def __init__(self, reason: str, retry_after: int) -> None:
        """Take what was wrong, and the seconds until the next wrong credentials are answered as such."""
        super().__init__(f"{reason}; too many from this address were wrong")
        self.retry_after = retry_after


class WriteFailedError(Exception):
    """A write did not take (all of) the entries. Whether some are stored is not known: write them again elsewhere.

    No answer to a caller: delivery finds another place, or raises UnavailableError.
    """

    def __init__(self, reason: str, message: str, topic: str | None = None) -> None:
        """Take the reason, a metric label, a message for the log, and the topic if it is about that one alone."""
        super().__init__(message)
        self.reason = reason
        self.topic = topic


#: All that can become of a callback: its ack, or the code of the error that answers it. Each is a counter.
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
