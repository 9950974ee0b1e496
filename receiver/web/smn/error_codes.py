"""What SMN's API calls each mistake: https://support.huaweicloud.com/api-smn/smn_api_66000.html, as a table.

The texts are SMN's own, because clients compare them; those that name a limit of ours are not.
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
        """Return the error to raise, with SMN's text or, where that says too little, with a better one."""
        return SmnError(self.status, self.code, message or self.message)


FORBIDDEN: Final = SmnErrorCode(403, "SMN.0001", "No permission to request resources.")
TOPIC_URN: Final = SmnErrorCode(400, "SMN.0005", "Parameter: TopicUrn is invalid.")
TOO_MANY_TOPICS: Final = SmnErrorCode(
    400,
    "SMN.0005",
    "Events of this project have been routed to 1,000 topics already, as many as there may be: use one of those.",
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
    "The project has as many signatures as it may have, 10,000: use one of those, or wait until the reports of one "
    "have expired.",
)
EVENT_TYPE: Final = SmnErrorCode(400, "SMN.0100", "The eventType parameter is invalid.")
MESSAGE_ID: Final = SmnErrorCode(400, "SMN.0102", "Parameter: message_id is invalid.")
#: SMN has no code for "not found"; the status tells the two apart.
NO_MESSAGE: Final = SmnErrorCode(404, "SMN.0102", "No message with this message_id is known: it was never registered.")
OLD_MESSAGE: Final = SmnErrorCode(404, "SMN.0102", "The text of this message has expired: it is kept for 24 hours.")
START_TIME: Final = SmnErrorCode(400, "SMN.0103", "The start_time parameter value is invalid.")
END_TIME: Final = SmnErrorCode(400, "SMN.0104", "The end_time parameter value is invalid.")
#: SMN's text speaks of 3 months. What is answered names the limit in force.
TOO_OLD: Final = SmnErrorCode(400, "SMN.0113", "The start time and end time must be within RECEIVER_REPORT_RETENTION.")
REVERSED: Final = SmnErrorCode(400, "SMN.0114", "The end time must be later than the start time.")

_WRONG_TOPIC: Final = "The topic URN configured for the message sending {} message event is invalid."
#: What is wrong when an event type is given a topic that cannot be its route.
ROUTES: Final = {
    EventType.FAIL: SmnErrorCode(400, "SMN.0140", _WRONG_TOPIC.format("failure")),
    EventType.SUCCESS: SmnErrorCode(400, "SMN.0142", _WRONG_TOPIC.format("success")),
    EventType.REPLY: SmnErrorCode(400, "SMN.0144", _WRONG_TOPIC.format("response")),
    EventType.SENT: TOPIC_URN,  # SMN has no such type
}
