"""Fields for the schemas of settings: secrets, lists and tables of secrets."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from marshmallow import ValidationError, fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_SECRET: Final = 512
_FEW_DIGITS: Final = 3
#: As in a shell, where nothing expands it: everybody who reads the file would know the secret.
_SHELL_VARIABLE: Final = re.compile(r"\$\{?([A-Z][A-Z0-9_]*)\}?")
#: Words that ask for a value, and the words that stand beside them in examples. A text of such words and a few digits
#: is no secret yet.
_ASKING_WORDS: Final = "change changeit changeme fill insert placeholder put replace todo your"
_OTHER_WORDS: Final = (
    "a access an api auth callback here in it key me my new of old one our password please secret sms string text the "
    "this to token use user value webhook with"
)
_ASKING: Final = frozenset(_ASKING_WORDS.split())
_EXAMPLE: Final = _ASKING | frozenset(_OTHER_WORDS.split())
HOW_TO_MAKE: Final = "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"
_HOW_TO_GET: Final = "Write the one that the provider shows."
_environment: ContextVar[Mapping[str, str] | None] = ContextVar("environment")
TEXT: Final[dict[str, str | list[Any] | dict[Any, Any]]] = {"invalid": 'must be text; write it in quotes: "…".'}
LIST: Final[dict[str, str | list[Any] | dict[Any, Any]]] = {"invalid": 'must be a list; write ["…"].'}
TABLE: Final[dict[str, str | list[Any] | dict[Any, Any]]] = {"invalid": 'must be a table; write {{name = "…"}}.'}


@contextmanager
def secrets_from(environment: Mapping[str, str] | None) -> Iterator[None]:
    """Resolve ``env:NAME`` in secrets with these variables, inside the ``with`` block.

    With None no secret is read: lists and tables of secrets load as empty ones.
    """
    token = _environment.set(environment)
    try:
        yield
    finally:
        _environment.reset(token)


class Secret(fields.String):
    """A secret: the text itself, ``env:NAME`` for an environment variable, or ``file:/path`` for a file's content.

    Loading one outside of ``secrets_from`` raises LookupError. A placeholder such as ``change me`` or ``$NAME`` is
    invalid. ``own``: the operator makes it, else the provider does, which the message says.
    """

    def __init__(self, *, own: bool = False, **kwargs: Any) -> None:  # noqa: ANN401 marshmallow's
        super().__init__(error_messages=TEXT, **kwargs)
        self._own = own

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401 marshmallow's
        text = super()._deserialize(value, attr, data, **kwargs)
        environment = _environment.get()
        if environment is None:
            return ""
        if text.startswith("env:"):
            name = text.removeprefix("env:")
            secret, source = _from_variable(name, environment), f"the environment variable {name} "
        elif text.startswith("file:"):
            path = Path(text.removeprefix("file:"))
            secret, source = _from_file(path), f"the file {path} "
        else:
            if variable := _SHELL_VARIABLE.fullmatch(text):
                raise ValidationError(f"is the text {text} itself; write env:{variable[1]} for the variable.")
            secret, source = text, ""
        self.check(secret, source)
        return secret

    def check(self, secret: str, source: str) -> None:
        """Raise ValidationError for an invalid secret, with its ``source`` and without the secret itself."""
        if not 1 <= len(secret) <= MAX_SECRET:
            raise ValidationError(f"{source}must have between 1 and {MAX_SECRET} characters.")
        if is_placeholder(secret):
            raise ValidationError(
                f"{source}is a placeholder, which anybody can guess. {HOW_TO_MAKE if self._own else _HOW_TO_GET}"
            )


def is_placeholder(secret: str) -> bool:
    """Return whether a text has only words such as ``change me`` or ``your-token-here``, and at most three digits."""
    words = set(re.findall(r"[a-z]+", secret.lower()))
    few_digits = len(re.findall(r"\d", secret)) <= _FEW_DIGITS
    return few_digits and not words.isdisjoint(_ASKING) and words <= _EXAMPLE


class _SecretList(fields.List[str]):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:  # noqa: ANN401 marshmallow's
        loaded = super()._deserialize(value, attr, data, **kwargs)
        return [] if _environment.get() is None else loaded


class _SecretTable(fields.Dict):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[Any, Any]:  # noqa: ANN401 marshmallow's
        loaded: dict[Any, Any] = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]
        return {} if _environment.get() is None else loaded


def secrets(one: Secret | None = None, *, own: bool = False) -> fields.Field[Any]:
    """Return a field for a list of secrets. Any of them is accepted, which allows rotation."""
    return _SecretList(one or Secret(own=own), error_messages=LIST)


def named_secrets(names: fields.Field[Any] | None = None, *, own: bool = False) -> fields.Field[Any]:
    """Return a field for a table of secrets. Requests select one by name."""
    return _SecretTable(keys=names or fields.String(), values=Secret(own=own), error_messages=TABLE)


def _from_variable(name: str, environment: Mapping[str, str]) -> str:
    value = environment.get(name)
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
