"""The AsyncAPI 3.0 document of the event streams, generated from the structs that write the events.

https://www.asyncapi.com/docs/reference/specification/v3.0.0. The file ``deploy/asyncapi.json`` is this document:
``python -c "from receiver.web.documents.asyncapi import write; write()"`` writes it.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec

from receiver.events import EventType, RejectedData, ReplyData, ReportData
from receiver.routing import DEFAULT_NAMES, PROJECT_ID, QUARANTINE

#: Where the document lies in the repository.
FILE: Final = Path(__file__).parents[3] / "deploy" / "asyncapi.json"
_REFERENCE: Final = "#/components/schemas/{name}"
_DATA: Final[dict[EventType, type[msgspec.Struct]]] = {
    EventType.SUCCESS: ReportData,
    EventType.FAIL: ReportData,
    EventType.REPLY: ReplyData,
    EventType.SENT: ReportData,
    EventType.REJECTED: RejectedData,
}
_ABOUT: Final = {
    EventType.SUCCESS: "The handset has the message.",
    EventType.FAIL: "The carrier gave up on the message.",
    EventType.REPLY: "A person answered.",
    EventType.SENT: "The message is on its way. Only of projects that ask a provider for states that are not final.",
    EventType.REJECTED: "An item that failed validation, exactly as received, with the reasons.",
}
_STREAMS: Final = (
    "Each topic is a Redis stream whose key is the topic URN itself. An entry has one field, `data`: a CloudEvents 1.0 "
    "event in structured JSON. Read it with a consumer group (XREADGROUP) and acknowledge each entry (XACK): what a "
    "group has not acknowledged is not trimmed, short of the hard cap. An event is stored once in the dedupe window; "
    "after that, and after a crash of the consumer, be ready to see an `id` again."
)


def document() -> dict[str, Any]:
    """Return the whole document."""
    _, schemas = msgspec.json.schema_components(list(dict.fromkeys(_DATA.values())), ref_template=_REFERENCE)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "SMS events", "version": version("sms-callback-receiver"), "description": _STREAMS},
        "defaultContentType": "application/json",
        "servers": {"redis": {"host": "127.0.0.1:6399", "protocol": "redis", "description": "REDIS_URL"}},
        "channels": {kind.value: _channel(kind) for kind in EventType},
        "operations": {kind.value: _operation(kind) for kind in EventType},
        "components": {
            "messages": {kind.value: _message(kind) for kind in EventType},
            "schemas": schemas,
            "parameters": {
                "region": {"description": "The project's region; `local` without a configuration."},
                "project_id": {"description": f"The project: {PROJECT_ID.pattern}"},
            },
        },
    }


def write(path: Path = FILE) -> None:
    """Write the document to a file."""
    path.write_text(text(), encoding="utf-8")


def text() -> str:
    """Return the document as the file has it."""
    return json.dumps(document(), ensure_ascii=False, indent=2) + "\n"


def _channel(kind: EventType) -> dict[str, Any]:
    name = DEFAULT_NAMES.get(kind, QUARANTINE)
    routed = " The configuration, or UpdateSmsEvent at run time, may route it to another topic."
    return {
        "address": f"urn:smn:{{region}}:{{project_id}}:{name}",
        "description": _ABOUT[kind] + (routed if kind in DEFAULT_NAMES else ""),
        "parameters": {part: {"$ref": f"#/components/parameters/{part}"} for part in ("region", "project_id")},
        "messages": {kind.value: {"$ref": f"#/components/messages/{kind.value}"}},
    }


def _operation(kind: EventType) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{kind.value}"},
        "summary": _ABOUT[kind],
        "messages": [{"$ref": f"#/channels/{kind.value}/messages/{kind.value}"}],
    }


def _message(kind: EventType) -> dict[str, Any]:
    data = _DATA[kind].__name__
    return {
        "name": kind.value,
        "title": _ABOUT[kind],
        "contentType": "application/cloudevents+json",
        "payload": {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "time", "receivedtime", "data"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "The same item has the same id."},
                "source": {"type": "string", "description": "/{provider}/{project_id}"},
                "type": {"const": kind.value},
                "time": {"type": "string", "format": "date-time", "description": "When it happened, UTC."},
                "receivedtime": {"type": "string", "format": "date-time", "description": "When it was received, UTC."},
                "data": {"$ref": _REFERENCE.format(name=data)},
            },
        },
    }
