"""Structured logs: events with dotted names and fields, as JSON, or as text on a terminal.

A processor redacts secrets, phone numbers and message texts. It masks fields by name. In every other text it masks long
runs of digits, and keys and passwords in URLs.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from socket import gaierror
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, WrappedLogger

Logger = structlog.stdlib.BoundLogger

_MASK: Final = "[redacted]"
#: Names of fields that hold a secret, a phone number or a message text, in the spellings of all providers.
_PRIVATE_NAMES: Final = re.compile(
    r"key|token|secret|password|passwd|authorization|signature|cookie|mobile|phone|subscriber|text|reply|message$"
    r"|body|item|session_context|^ext$|^data$|query",
    re.IGNORECASE,
)
_SECRETS: Final = (
    (re.compile(r"(?i)([?&;]\w*(?:key|token|password|secret|signature)=)[^&\s\"']*"), rf"\1{_MASK}"),
    # Up to the last @ before the path: user and password may contain @.
    (re.compile(r"(://[^/\s:]*:)[^/\s]*@"), rf"\1{_MASK}@"),
    # Neither decimals nor parts of hexadecimal ids. Chinese text has no space before a number.
    (re.compile(r"(?<![A-Za-z0-9])(?<!\d\.)\+?\d{7,15}(?![A-Za-z0-9])"), _MASK),
)
#: Fields with long numbers that are not phone numbers. Entry ids contain times.
_MEASURES: Final = re.compile(
    r"_(bytes|events|seconds|ms|count)$|^entry_ids$|^(pid|port|bytes|events|seconds|count|timestamp)$"
)

_MINUTE: Final = 60.0

#: aiohttp's exceptions for invalid HTTP, incomplete bodies, and closed connections.
_CLIENT_ERRORS: Final = (HttpProcessingError, RequestPayloadError, ConnectionError)


class OnceAMinute:
    """Limits a repeated log event to one a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns seconds."""
        self._clock = clock
        self._next = -math.inf

    def due(self) -> bool:
        """Return True at most once a minute."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + _MINUTE
        return True


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask private values: a structlog processor."""
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


def _one_line_error(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace an exception by its name and message. A traceback of an expected failure is noise."""
    error = event.get("error")
    if isinstance(error, BaseException):
        event["error"] = f"{type(error).__name__}: {error}"
    return event


def _demote_client_errors(record: logging.LogRecord) -> bool:
    """Filter aiohttp's log: log errors of clients at debug level, without the exception, which quotes the request."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, _CLIENT_ERRORS):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.msg, record.args, record.exc_info = "http.clients_fault", (), None
        record.reason = type(error).__name__
    return record.levelno >= logging.getLogger().level


def _demote_late_lookups(record: logging.LogRecord) -> bool:
    """Filter asyncio's log: log at debug level what became of a lookup whose connection was given up meanwhile.

    uvloop lets it run on, and nobody is left to take its error. Who tried to connect has logged that it failed.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, gaierror) and record.getMessage().startswith("Future exception was never retrieved"):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.msg, record.args, record.exc_info = "dns.late_failure", (), None
        record.reason = str(error)
    return record.levelno >= logging.getLogger().level


def configure(level: str) -> Logger:
    """Configure logging for the process, standard library loggers included. Returns the service's logger."""
    terminal = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _one_line_error,
        redact,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
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
    logging.getLogger("asyncio").filters[:] = [_demote_late_lookups]
    logging.getLogger("aiohttp.server").filters[:] = [_demote_client_errors]
    logger: Logger = structlog.stdlib.get_logger("receiver")
    return logger
