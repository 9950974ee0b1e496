"""Parses requests of SMN's API with webargs, as leniently as SDKs need, and raises SMN's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from marshmallow import EXCLUDE, fields
from multidict import MultiDict
from webargs.aiohttpparser import AIOHTTPParser

from receiver.error_paths import flatten_errors
from receiver.errors import summary
from receiver.web.smn.error_codes import MALFORMED, SmnErrorCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from marshmallow import Schema, ValidationError
    from webargs.multidictproxy import MultiDictProxy

    from receiver.errors import SmnError
    from receiver.web.smn.bodies import BodyReader


class SmnParser(AIOHTTPParser):
    """Loads queries and JSON bodies with marshmallow schemas, and raises SmnError."""

    def __init__(self, read_body: BodyReader) -> None:
        super().__init__()
        # SDKs send further parameters.
        self.DEFAULT_UNKNOWN_BY_LOCATION = {"query": EXCLUDE, "json": EXCLUDE}
        self._read_body = read_body

    def load_querystring(self, req: web.Request, schema: Schema) -> MultiDictProxy:
        """Return the query, without parameters that have no value."""
        given = MultiDict((name, value) for name, value in req.query.items() if value)
        return self._makeproxy(given, schema)

    async def load_json(self, req: web.Request, schema: Schema) -> Any:  # noqa: ANN401, ARG002 any JSON; webargs' signature
        """Return the decoded body, whatever its Content-Type. Raises SmnError for invalid JSON."""
        try:
            return msgspec.json.decode(await self.body(req))
        except RecursionError:
            raise MALFORMED.error("the body is nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MALFORMED.error(f"the body is not JSON: {error}") from None

    async def body(self, req: web.Request) -> bytes:
        """Return the raw body. Raises SmnError for an empty one."""
        body = await self._read_body(req)
        if not body:
            raise MALFORMED.error("the body is empty: expected JSON")
        return body

    def handle_error(
        self,
        error: ValidationError,
        req: web.Request,  # noqa: ARG002 webargs' signature
        schema: Schema,
        *,
        error_status_code: int | None,  # noqa: ARG002 as above
        error_headers: Mapping[str, str] | None,  # noqa: ARG002 as above
    ) -> NoReturn:
        """Raise SMN's error for the first invalid field."""
        messages: Any = error.messages
        for tree in messages.values():  # by location: there is one
            raise to_smn_error(schema, tree) from None
        raise MALFORMED.error()


def to_smn_error(schema: Schema, tree: Any) -> SmnError:  # noqa: ANN401 marshmallow's tree of messages
    """Return SMN's error for the first invalid field, in the order of the schema.

    The metadata of a field holds its error code. The message for a field without one lists the problems.
    """
    code = _error_code(schema, tree)
    return code.error(summary(flatten_errors(tree)) if code is MALFORMED else None)


def _error_code(schema: Schema, tree: Any) -> SmnErrorCode:  # noqa: ANN401 as above
    if isinstance(tree, dict):
        for name, field in schema.fields.items():
            if name in tree:
                inner = _inner(field)
                inner_code = MALFORMED if inner is None else _error_code(inner, _first(tree[name]))
                code: SmnErrorCode = field.metadata.get("error_code", MALFORMED)
                return code if inner_code is MALFORMED else inner_code
    return MALFORMED


def _inner(field: fields.Field[Any]) -> Schema | None:
    if isinstance(field, fields.List):
        return _inner(field.inner)
    return field.schema if isinstance(field, fields.Nested) else None


def _first(tree: Any) -> Any:  # noqa: ANN401 as above
    """Return the messages of a list's first invalid element."""
    if isinstance(tree, dict) and tree and all(isinstance(step, int) for step in tree):
        return tree[min(tree)]
    return tree
