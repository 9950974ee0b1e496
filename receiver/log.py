"""Logs: dotted facts with fields, JSON unless a person watches. Redaction is a processor and cannot be forgotten.

No secret, phone number or text of a person leaves here: fields that may carry one are masked by name, and so are
long runs of digits, keys in URLs and passwords in URLs wherever they stand in a text.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, WrappedLogger

Logger = structlog.stdlib.BoundLogger

_MASK: Final = "[redacted]"
#: Names of fields that hold a secret, a phone number or what a person wrote, in any spelling of the providers.
_PRIVATE_NAMES: Final = re.compile(
    r"key|token|secret|password|passwd|authorization|signature|cookie|mobile|phone|subscriber|text|reply|message$"
    r"|body|item|session_context|^ext$|^data$|query",
    re.IGNORECASE,
)
_SECRETS: Final = (
    (re.compile(r"(?i)([?&;](?:key|token|password|secret|signature)=)[^&\s\"']*"), rf"\1{_MASK}"),
    # To the last @ before the path: a password may have one of its own, as the user may.
    (re.compile(r"(://[^/\s:]*:)[^/\s]*@"), rf"\1{_MASK}@"),
    # Not the decimals of a figure, nor a part of a hexadecimal id. Chinese needs no space before a number.
    (re.compile(r"(?<![A-Za-z0-9])(?<!\d\.)\+?\d{7,15}(?![A-Za-z0-9])"), _MASK),
)
#: Numbers that are no phone numbers although they are long; the ids of entries are times.
_MEASURES: Final = re.compile(
    r"_(bytes|events|seconds|ms|count)$|^entry_ids$|^(pid|port|bytes|events|seconds|count|timestamp)$"
)

_MINUTE: Final = 60.0

#: What aiohttp raises for bytes that are no HTTP, bodies that do not end as announced, and clients that go away.
_CLIENTS_FAULTS: Final = (HttpProcessingError, RequestPayloadError, ConnectionError)


class OnceAMinute:
    """Says when something that goes on may be logged again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the clock, in seconds."""
        self._clock = clock
        self._next = -math.inf

    def due(self) -> bool:
        """Tell whether a minute has passed since the answer was last yes."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + _MINUTE
        return True


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask what may not be logged: a structlog processor."""
    return {name: _redacted(name, value) for name, value in event.items()}


def _redacted(name: str, value: Any) -> Any:  # noqa: ANN401 a log field
    if _MEASURES.search(name):
        return value
    if _PRIVATE_NAMES.search(name):
        return _MASK
    return _masked(value)


def _masked(value: Any) -> Any:  # noqa: ANN401 a log field
    if isinstance(value, dict):
        return {name: _redacted(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(inner) for inner in value]
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return _MASK if abs(value) >= 10**6 else value
    text = str(value)
    for pattern, mask in _SECRETS:
        text = pattern.sub(mask, text)
    return text


def _error_in_a_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Turn an exception into its name and message: for expected failures a traceback is noise."""
    error = event.get("error")
    if isinstance(error, BaseException):
        event["error"] = f"{type(error).__name__}: {error}"
    return event


def _without_clients_words(record: logging.LogRecord) -> bool:
    """Filter aiohttp's log: what a client did wrong is no error of ours, and the exception quotes what it sent."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, _CLIENTS_FAULTS):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.msg, record.args, record.exc_info = "http.clients_fault", (), None
        record.reason = type(error).__name__
    return record.levelno >= logging.getLogger().level


def configure(level: str) -> Logger:
    """Set up logging for the process and return the service's logger. Standard library loggers go the same way."""
    person = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _error_in_a_line,
        redact,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if person else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=["reason"]), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").filters[:] = [_without_clients_words]
    logger: Logger = structlog.stdlib.get_logger("receiver")
    return logger
