"""Flattens marshmallow's tree of error messages into lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def flatten_errors(messages: Any, at: str = "") -> Iterator[str]:  # noqa: ANN401 marshmallow's tree of messages
    """Yield lines of the form ``projects.a.tokens[0]: message``.

    The steps ``key`` and ``value`` in marshmallow's errors of dicts are omitted.
    """
    if isinstance(messages, list):
        text = " ".join(str(message) for message in messages)
        yield f"{at}: {text}" if at else text  # without ``at``, an error of the whole
        return
    for step, inner in messages.items():
        if isinstance(step, int):
            yield from flatten_errors(inner, f"{at}[{step}]")
        elif step == "_schema" or (step in ("key", "value") and at):
            yield from flatten_errors(inner, at)
        else:
            yield from flatten_errors(inner, f"{at}.{step}" if at else str(step))
