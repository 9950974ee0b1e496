"""Fields for the schemas of settings: secrets, lists and tables of secrets."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from marshmallow import ValidationError, fields, validate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_SECRET: Final = 512
_environment: ContextVar[Mapping[str, str]] = ContextVar("environment")
TEXT: Final[dict[str, str | list[Any] | dict[Any, Any]]] = {"invalid": 'must be text; write it in quotes: "…".'}
LIST: Final[dict[str, str | list[Any] | dict[Any, Any]]] = {"invalid": 'must be a list; write ["…"].'}
TABLE: Final[dict[str, str | list[Any] | dict[Any, Any]]] = {"invalid": 'must be a table; write {{name = "…"}}.'}


@contextmanager
def secrets_from(environment: Mapping[str, str]) -> Iterator[None]:
    """Resolve ``env:NAME`` in secrets with these variables, inside the ``with`` block."""
    token = _environment.set(environment)
    try:
        yield
    finally:
        _environment.reset(token)


class Secret(fields.String):
    """A secret: the text itself, ``env:NAME`` for an environment variable, or ``file:/path`` for a file's content.

    Loading ``env:NAME`` outside of ``secrets_from`` raises LookupError.
    """

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 marshmallow's
        length = validate.Length(1, _MAX_SECRET, error="must have between {min} and {max} characters.")
        super().__init__(validate=length, error_messages=TEXT, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401 marshmallow's
        text = super()._deserialize(value, attr, data, **kwargs)
        if text.startswith("env:"):
            return _from_variable(text.removeprefix("env:"))
        if text.startswith("file:"):
            return _from_file(Path(text.removeprefix("file:")))
        return text


def secrets() -> fields.Field[Any]:
    """Return a field for a list of secrets. Any of them is accepted, which allows rotation."""
    return fields.List(Secret(), error_messages=LIST)


def named_secrets() -> fields.Field[Any]:
    """Return a field for a table of secrets. Requests select one by name."""
    return fields.Dict(keys=fields.String(), values=Secret(), error_messages=TABLE)


def _from_variable(name: str) -> str:
    value = _environment.get().get(name)
    if not value:
        raise ValidationError(f"the environment variable {name} is not set; set it or write the secret here.")
    return value


def _from_file(path: Path) -> str:
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValidationError(f"the file {path} cannot be read: {getattr(error, 'strerror', 'not UTF-8')}.") from None
    if not value:
        raise ValidationError(f"the file {path} is empty; write the secret into it.")
    return value
