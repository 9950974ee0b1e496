"""Where mistakes are: marshmallow's tree of messages as one line for each place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def flatten_errors(messages: Any, at: str = "") -> Iterator[str]:  # noqa: ANN401 marshmallow's tree of messages
    """Flatten marshmallow's error tree into ``projects.a.tokens[0]: what is wrong``.

    The steps ``key`` and ``value`` that marshmallow puts into errors of dicts are left out.
    """
    if isinstance(messages, list):
        said = " ".join(str(message) for message in messages)
        yield f"{at}: {said}" if at else said  # about the whole
        return
    for step, inner in messages.items():
        if isinstance(step, int):
            yield from flatten_errors(inner, f"{at}[{step}]")
        elif step == "_schema" or (step in ("key", "value") and at):
            yield from flatten_errors(inner, at)
        else:
            yield from flatten_errors(inner, f"{at}.{step}" if at else str(step))
