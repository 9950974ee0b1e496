"""The AsyncAPI 3.0 document of the event streams, generated from the structs of the events.

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
from receiver.web.documents.samples import sample

#: The document's place in the repository.
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
    EventType.SUCCESS: "The handset has received the message.",
    EventType.FAIL: "Delivery of the message has failed for good.",
    EventType.REPLY: "A person sent a message.",
    EventType.SENT: "The message is on its way. Published only for projects that enable the option `pending`.",
    EventType.REJECTED: "An item that failed validation, exactly as received, with the reasons.",
}
_STREAMS: Final = (
    "Each topic is a Redis stream whose key is the topic URN itself. An entry has one field, `data`: a CloudEvents 1.0 "
    "event in structured JSON. Read it with a consumer group (XREADGROUP) and acknowledge each entry (XACK): entries "
    "that a group has not acknowledged are only trimmed at the hard cap. An event is stored once within the dedupe "
    "window. After that, or after a crash of the consumer, an `id` can appear again. A topic that the configuration "
    "partitions has further streams, `{topic}.{suffix}`, and keeps a person's events in one of them, in their order. "
    "ListSmsEvent lists their keys as `stream_keys`, and `receiver routes` shows them: a consumer reads all of them."
)


def document() -> dict[str, Any]:
    """Return the whole document."""
    _, schemas = msgspec.json.schema_components(list(dict.fromkeys(_DATA.values())), ref_template=_REFERENCE)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "SMS events", "version": version("sms-callback-receiver"), "description": _STREAMS},
        "defaultContentType": "application/json",
        "servers": {"redis": {"host": "127.0.0.1:6399", "protocol": "redis", "description": "REDIS_URL"}},
        "channels": {event_type.value: _channel(event_type) for event_type in EventType},
        "operations": {event_type.value: _operation(event_type) for event_type in EventType},
        "components": {
            "messages": {event_type.value: _message(event_type) for event_type in EventType},
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
    """Return the document as the file's text."""
    return json.dumps(document(), ensure_ascii=False, indent=2) + "\n"


def _channel(event_type: EventType) -> dict[str, Any]:
    name = DEFAULT_NAMES.get(event_type, QUARANTINE)
    routed = " The configuration, or UpdateSmsEvent at run time, may route it to another topic."
    return {
        "address": f"urn:smn:{{region}}:{{project_id}}:{name}",
        "description": _ABOUT[event_type] + (routed if event_type in DEFAULT_NAMES else ""),
        "parameters": {part: {"$ref": f"#/components/parameters/{part}"} for part in ("region", "project_id")},
        "messages": {event_type.value: {"$ref": f"#/components/messages/{event_type.value}"}},
    }


def _operation(event_type: EventType) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{event_type.value}"},
        "summary": _ABOUT[event_type],
        "messages": [{"$ref": f"#/channels/{event_type.value}/messages/{event_type.value}"}],
    }


def _message(event_type: EventType) -> dict[str, Any]:
    data = _DATA[event_type].__name__
    return {
        "name": event_type.value,
        "title": _ABOUT[event_type],
        "contentType": "application/cloudevents+json",
        "examples": [{"name": event_type.value, "payload": sample(event_type)}],
        "payload": {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "time", "receivedtime", "data"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {
                    "type": "string",
                    "pattern": "^[0-9a-f]{32}$",
                    "description": "Equal items have equal ids.",
                },
                "replayof": {
                    "type": "string",
                    "pattern": "^[0-9a-f]{32}$",
                    "description": "Of an event that was published again: the `id` of the original.",
                },
                "replayname": {"type": "string", "description": "The name of the replay that published it again."},
                "source": {"type": "string", "description": "/{provider}/{project_id}"},
                "type": {"const": event_type.value},
                "time": {"type": "string", "format": "date-time", "description": "Time of the event, UTC."},
                "receivedtime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "Time of receipt, UTC.",
                },
                "traceparent": {
                    "type": "string",
                    "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                    "description": "With tracing: the span of the callback, in W3C Trace Context.",
                },
                "data": {"$ref": _REFERENCE.format(name=data)},
            },
        },
    }
