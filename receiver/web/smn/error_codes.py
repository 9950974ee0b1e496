"""The error codes of SMN's API, as a table: https://support.huaweicloud.com/api-smn/smn_api_66000.html.

The texts are SMN's own, because clients compare them. Texts that name our limits are ours.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.errors import SmnError
from receiver.events import EventType


class SmnErrorCode(NamedTuple):
    """An HTTP status, SMN's code, and SMN's text."""

    status: int
    code: str
    message: str

    def error(self, message: str | None = None) -> SmnError:
        """Return the exception to raise, with ``message`` in place of SMN's text if given."""
        return SmnError(self.status, self.code, message or self.message)


FORBIDDEN: Final = SmnErrorCode(403, "SMN.0001", "No permission to request resources.")
TOPIC_URN: Final = SmnErrorCode(400, "SMN.0005", "Parameter: TopicUrn is invalid.")
TOO_MANY_TOPICS: Final = SmnErrorCode(
    400,
    "SMN.0005",
    "The project has already been routed to 1,000 topics, the maximum: use one of those.",
)
#: SMN publishes no code for a body that is not JSON or a parameter that has no code of its own.
MALFORMED: Final = SmnErrorCode(400, "SMN.0013", "The request is invalid.")
PAGE: Final = SmnErrorCode(400, "SMN.0015", "Parameter: Offset or limit is invalid.")
DATABASE: Final = SmnErrorCode(500, "SMN.0016", "Database Exceptions.")
INTERNAL: Final = SmnErrorCode(500, "SMN.0018", "Service internal error.")
STATUS: Final = SmnErrorCode(400, "SMN.0077", "Parameter: Status is invalid.")
SIGN_ID: Final = SmnErrorCode(400, "SMN.0080", "The signId parameter is invalid.")
TOO_MANY_SIGNS: Final = SmnErrorCode(
    400,
    "SMN.0080",
    "The project already has 10,000 signatures, the maximum: use one of those, or wait until the reports of one "
    "have expired.",
)
EVENT_TYPE: Final = SmnErrorCode(400, "SMN.0100", "The eventType parameter is invalid.")
MESSAGE_ID: Final = SmnErrorCode(400, "SMN.0102", "Parameter: message_id is invalid.")
#: SMN has no code for "not found". The status distinguishes it from MESSAGE_ID.
NO_MESSAGE: Final = SmnErrorCode(404, "SMN.0102", "The message_id is unknown: no message was registered with it.")
OLD_MESSAGE: Final = SmnErrorCode(404, "SMN.0102", "The text of this message has expired: it is kept for 24 hours.")
START_TIME: Final = SmnErrorCode(400, "SMN.0103", "The start_time parameter value is invalid.")
END_TIME: Final = SmnErrorCode(400, "SMN.0104", "The end_time parameter value is invalid.")
#: SMN's text says 3 months. Ours names the configured limit.
TOO_OLD: Final = SmnErrorCode(400, "SMN.0113", "The start time and end time must be within RECEIVER_REPORT_RETENTION.")
REVERSED: Final = SmnErrorCode(400, "SMN.0114", "The end time must be later than the start time.")

_WRONG_TOPIC: Final = "The topic URN configured for the message sending {} message event is invalid."
#: Errors for an invalid topic, by event type.
ROUTES: Final = {
    EventType.FAIL: SmnErrorCode(400, "SMN.0140", _WRONG_TOPIC.format("failure")),
    EventType.SUCCESS: SmnErrorCode(400, "SMN.0142", _WRONG_TOPIC.format("success")),
    EventType.REPLY: SmnErrorCode(400, "SMN.0144", _WRONG_TOPIC.format("response")),
    EventType.SENT: TOPIC_URN,  # SMN has no such type
}
