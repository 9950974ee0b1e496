"""Tencent's own form: batches of status reports, and replies one by one.

https://www.tencentcloud.com/document/product/382/59178 (status), …/59179 (reply).
"""

from __future__ import annotations

from datetime import timedelta, timezone
from operator import itemgetter
from typing import Final

from receiver.simulator.traffic import Invention, Item, State, Style, json, other, without

_BEIJING: Final = timezone(timedelta(hours=8))
_DELIVERED: Final = ("DELIVRD", "用户短信送达成功")
#: Codes of https://cloud.tencent.com/document/product/382/59177, with a rough weight of how often they are seen.
_FAILURES: Final = (
    ("MK:0001", "空号", 20),
    ("UNDELIV", "空号/停机/关机", 16),
    ("EXPIRED", "短信有效期过期", 8),
    ("MK:0005", "号码状态异常", 8),
    ("MI:0024", "手机关机或不在服务区", 7),
    ("MC:0055", "手机终端无应答", 6),
    ("-43", "号码状态异常", 5),
    ("12", "关机或停机", 5),
    ("UNDELIV_601", "号码不可达", 5),
    ("EXPIRED_614", "短信有效期过期", 4),
    ("MX:0003", "同一签名达到单个号码日发送上限", 3),
    ("MX:0012", "号码已退订", 3),
    ("REJECTD", "短信被拒绝", 3),
    ("MOBILE BLACK", "全局黑名单", 2),
    ("BWLIST _006", "网关黑名单", 2),
    ("其他", "运营商未返回原因", 1),
)
_FAILURE_WEIGHTS: Final = [weight for _, _, weight in _FAILURES]
_REPLIES: Final = ("TD", "T", "1", "2", "Y", "退订", "收到 谢谢", "好的👌", "N")
_SIGNS: Final = ("腾讯云", "示例商城", "示例快递")


def status_report(sid: str, mobile: str, received: str, failure: tuple[str, str] | None = None) -> Item:
    """Return a status report; ``failure`` is a code and its meaning."""
    code, about = failure or _DELIVERED
    return {
        "user_receive_time": received,
        "nationcode": "86",
        "mobile": mobile,
        "report_status": "FAIL" if failure else "SUCCESS",
        "errmsg": code,
        "description": about,
        "sid": sid,
    }


def reply(extend: str, mobile: str, sign: str, text: str, time: int) -> Item:
    """Return a reply."""
    return {"extend": extend, "mobile": mobile, "nationcode": "86", "sign": sign, "text": text, "time": time}


def _report(invent: Invention, state: State) -> Item:
    failure = None
    if state is State.FAILED:
        ((code, about, _),) = invent.random.choices(_FAILURES, _FAILURE_WEIGHTS)
        failure = code, about
    received = invent.moment().astimezone(_BEIJING).strftime("%Y-%m-%d %H:%M:%S")
    mobile = invent.mobile()
    return status_report(_sid(invent), mobile, received, failure)


def _reply(invent: Invention) -> Item:
    extend = f"{invent.random.randrange(100):02d}"
    mobile = invent.mobile()
    sign, text = invent.random.choice(_SIGNS), invent.random.choice(_REPLIES)
    return reply(extend, mobile, sign, text, int(invent.clock()))


def _sid(invent: Invention) -> str:
    """Return an id in one of the two forms that Tencent gives out; both are long enough to be unique."""
    if invent.random.getrandbits(1):
        return f"5000:{invent.number(28)}"
    return f"14:{invent.hex(34)}"


def _number_as_mobile(item: Item) -> None:
    item["mobile"] = int(item["mobile"])


TENCENT: Final = Style(
    _report,
    _reply,
    json,
    json,
    itemgetter("sid"),
    (
        *without("mobile"),
        _number_as_mobile,
        other("report_status", "MAYBE"),
        other("user_receive_time", "yesterday"),
    ),
    batches=True,
)
