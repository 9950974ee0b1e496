"""A sample event of each type: what the service publishes for these callbacks, made by the code that publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.events import EnvelopeBuilder, EventType
from receiver.providers.base import request_of
from receiver.providers.sinch import Sinch
from receiver.providers.tencent import Tencent

if TYPE_CHECKING:
    from receiver.providers.base import Provider

#: Where the events of the samples belong.
PROJECT: Final = "f96188c7ccaf4ffba0c9aa149ab2bd57"
#: https://www.tencentcloud.com/document/product/382/59178 and …/59179, with a number instead of x.
REPORT: Final[dict[str, Any]] = {
    "user_receive_time": "2015-10-17 08:03:04",
    "nationcode": "86",
    "mobile": "13800138000",
    "report_status": "SUCCESS",
    "errmsg": "DELIVRD",
    "description": "用户短信送达成功",
    "sid": "5000:7145427675584051717504973170",
}
_FAILED: Final = {**REPORT, "report_status": "FAIL", "errmsg": "MK:0001", "description": "空号"}
_REPLY: Final = {
    "extend": "01",
    "mobile": "13800138000",
    "nationcode": "86",
    "sign": "短信签名",
    "text": "用户回复的内容",
    "time": 1457336869,
}
#: https://developers.sinch.com/docs/sms/api-reference/ (delivery report of a recipient).
_DISPATCHED: Final = {
    "type": "recipient_delivery_report_sms",
    "batch_id": "01W4FFL35P4NC4K35SMSBATCH9",
    "recipient": "12017777777",
    "code": 401,
    "status": "Dispatched",
    "at": "2026-03-01T02:00:05.210Z",
}
_CALLBACKS: Final[dict[EventType, tuple[type[Provider], dict[str, Any]]]] = {
    EventType.SUCCESS: (Tencent, REPORT),
    EventType.FAIL: (Tencent, _FAILED),
    EventType.REPLY: (Tencent, _REPLY),
    EventType.SENT: (Sinch, _DISPATCHED),
    EventType.REJECTED: (Tencent, {**REPORT, "report_status": "MAYBE"}),
}
#: When they were received, in ms since the epoch.
_RECEIVED_MS: Final = 1_772_330_406_123


def sample(event_type: EventType) -> dict[str, Any]:
    """Return a sample event as it stands in the field ``data`` of an entry."""
    provider_type, item = _CALLBACKS[event_type]
    provider = provider_type(provider_type.options_type(pending=True) if provider_type.has_pending else None)
    parsed = provider.parse(request_of(msgspec.json.encode(item)))
    (event,) = [*parsed.events, *(rejection.event for rejection in parsed.rejections)]
    entry = EnvelopeBuilder(provider.name, PROJECT).build(event, "", _RECEIVED_MS)
    decoded: dict[str, Any] = msgspec.json.decode(entry.data)
    return decoded
