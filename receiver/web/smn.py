"""ListSmsEvent in the words of Huawei Cloud SMN's SMS API.

https://support.huaweicloud.com/api-smn/smn_api_55010.html: which topic each event type routes to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.errors import SmnError
from receiver.events import ROUTED, EventType
from receiver.web.middleware import smn_response

if TYPE_CHECKING:
    from aiohttp import web

    from receiver.routing import Routing
    from receiver.web.auth import Credentials

#: The order of the document's example.
_ORDER: Final = (EventType.REPLY, EventType.FAIL, EventType.SUCCESS)


class SmsEvents:
    """The routes of a project, looked up."""

    def __init__(self, credentials: Credentials, routing: Routing) -> None:
        """Hand the collaborators over."""
        self._credentials = credentials
        self._routing = routing

    async def list(self, request: web.Request) -> web.Response:
        """ListSmsEvent: ``GET /v2/{project_id}/notifications/sms/callback[?event_type=]``."""
        project = await self._credentials.check(request, request.match_info["project_id"])
        wanted = request.query.get("event_type", "")
        if wanted and wanted not in ROUTED:
            raise SmnError(400, "SMN.0100", "The eventType parameter is invalid.")
        routes = self._routing[project.id].routed()
        callback = [{"event_type": kind, "topic_urn": routes[kind]} for kind in _ORDER if wanted in ("", kind)]
        return smn_response({"callback": callback})
