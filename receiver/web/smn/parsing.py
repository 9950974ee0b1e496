"""Requests of SMN's API through webargs: what SDKs send is taken, what is wrong is named with SMN's code."""

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
    from receiver.web.smn.bodies import Body


class SmnParser(AIOHTTPParser):
    """Loads queries and JSON bodies with marshmallow schemas, and raises SmnError."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        # SDKs send parameters that we do not know.
        self.DEFAULT_UNKNOWN_BY_LOCATION = {"query": EXCLUDE, "json": EXCLUDE}
        self._body = body

    def load_querystring(self, req: web.Request, schema: Schema) -> MultiDictProxy:
        """Return the query. A parameter without a value is one that was not given."""
        given = MultiDict((name, value) for name, value in req.query.items() if value)
        return self._makeproxy(given, schema)

    async def load_json(self, req: web.Request, schema: Schema) -> Any:  # noqa: ANN401, ARG002 any JSON; webargs' signature
        """Return the decoded body, whatever its Content-Type is. Raises SmnError when it is not JSON."""
        try:
            return msgspec.json.decode(await self.body(req))
        except RecursionError:
            raise MALFORMED.error("the body is nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MALFORMED.error(f"the body is not JSON: {error}") from None

    async def body(self, req: web.Request) -> bytes:
        """Return the body as it is. Raises SmnError when there is none."""
        body = await self._body(req)
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
        """Raise what SMN calls the first mistake."""
        messages: Any = error.messages
        for tree in messages.values():  # by location: there is one
            raise mistake(schema, tree) from None
        raise MALFORMED.error()


def mistake(schema: Schema, tree: Any) -> SmnError:  # noqa: ANN401 marshmallow's tree of messages
    """Return the error for a tree of messages: that of the first wrong field, in the order of the schema.

    A field's fault stands in its metadata. Without one the message names the place.
    """
    fault = _fault(schema, tree)
    return fault.error(summary(flatten_errors(tree)) if fault is MALFORMED else None)


def _fault(schema: Schema, tree: Any) -> SmnErrorCode:  # noqa: ANN401 as above
    if isinstance(tree, dict):
        for name, field in schema.fields.items():
            if name in tree:
                inner = _inner(field)
                found = MALFORMED if inner is None else _fault(inner, _first(tree[name]))
                fault: SmnErrorCode = field.metadata.get("fault", MALFORMED)
                return fault if found is MALFORMED else found
    return MALFORMED


def _inner(field: fields.Field[Any]) -> Schema | None:
    if isinstance(field, fields.List):
        return _inner(field.inner)
    return field.schema if isinstance(field, fields.Nested) else None


def _first(tree: Any) -> Any:  # noqa: ANN401 as above
    """Step into the first wrong element of a list."""
    if isinstance(tree, dict) and tree and all(isinstance(step, int) for step in tree):
        return tree[min(tree)]
    return tree
