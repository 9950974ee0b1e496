"""Providers in China besides Tencent: how each writes its reports and replies.

The names of fields are documented where they are read, in ``receiver/providers``.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Final
from urllib.parse import quote_plus

import msgspec

from receiver.providers.fields import BEIJING
from receiver.simulator.forms import CHINA_PLUS, ISO, TIME
from receiver.simulator.traffic import FORM, Invention, Item, State, Style, Wire, form, json, other, without


def _msgsms_report(invent: Invention, state: State) -> Item:
    failures = ("UNDELIV", "EXPIRED", "E200027", "REJECTD")
    return {
        "sequence": "1",
        "total": "1",
        "updateTime": invent.moment().strftime(ISO),
        "source": "2",
        "smsMsgId": f"{invent.uuid()}_{invent.number(8)}",
        "status": invent.random.choice(failures)
        if state is State.FAILED
        else {State.DELIVERED: "DELIVRD"}.get(state, "ACCEPTD"),
        "extend": f"order-{invent.number(6)}",
        "to": invent.mobile(CHINA_PLUS),
    }


def _msgsms_reply(invent: Invention) -> Item:
    return {
        "from": invent.mobile(CHINA_PLUS),
        "to": "1069000012342019",
        "body": invent.text(),
        "smsMsgId": invent.uuid(),
        "createTime": invent.moment().strftime(ISO),
    }


def _msgsms_reports(items: list[Item], _invent: Invention) -> Wire:
    """Write a single report as a form, and several as a list."""
    return form(items[0]) if len(items) == 1 else json({"statusReportList": items})


def _yunpian_report(invent: Invention, state: State) -> Item:
    failed = state is State.FAILED
    return {
        "error_detail": "错误号码" if failed else "接收成功",
        "sid": invent.number(19),
        "uid": f"order-{invent.number(6)}",
        "user_receive_time": invent.moment().astimezone(BEIJING).strftime(TIME),
        "error_msg": "YP:54" if failed else "",
        "mobile": invent.mobile(),
        "report_status": "FAIL" if failed else "SUCCESS",
    }


def _yunpian_reply(invent: Invention) -> Item:
    return {
        "base_extend": "8888",
        "extend": "01",
        "reply_time": invent.moment().astimezone(BEIJING).strftime(TIME),
        "mobile": invent.mobile(),
        "text": invent.text(),
        "id": invent.hex(32),
    }


def yunpian_form(name: str, value: object) -> Wire:
    """Write JSON as the value of a form's only parameter."""
    return Wire(f"{name}={quote_plus(msgspec.json.encode(value))}".encode(), FORM)


def _aliyun_report(invent: Invention, state: State) -> Item:
    failed, time = state is State.FAILED, invent.moment().astimezone(BEIJING).strftime(TIME)
    code, text = ("MOBILE_NOT_ON_SERVICE", "停机或空号") if failed else ("DELIVERED", "用户接收成功")
    return {
        "phone_number": invent.mobile(),
        "send_time": time,
        "report_time": time,
        "success": not failed,
        "err_code": code,
        "err_msg": text,
        "sms_size": "1",
        "biz_id": f"{invent.number(18)}^0",
        "out_id": f"order-{invent.number(6)}",
    }


def _aliyun_reply(invent: Invention) -> Item:
    return {
        "phone_number": invent.mobile(),
        "send_time": invent.moment().astimezone(BEIJING).strftime(TIME),
        "content": invent.text(),
        "sign_name": "示例",
        "dest_code": "1234",
        "sequence_id": invent.number(10),
    }


ALIYUN: Final = Style(
    _aliyun_report,
    _aliyun_reply,
    json,
    lambda item, _invent: json([item]),
    itemgetter("biz_id"),
    (*without("phone_number", "err_code"), other("success", "maybe"), other("report_time", "yesterday")),
    batches=True,
)
HUAWEI_MSGSMS: Final = Style(
    _msgsms_report,
    _msgsms_reply,
    _msgsms_reports,
    form,
    itemgetter("smsMsgId"),
    (*without("smsMsgId"), other("updateTime", "yesterday")),
    batches=True,
)
YUNPIAN: Final = Style(
    _yunpian_report,
    _yunpian_reply,
    lambda items, _invent: yunpian_form("sms_status", items),
    lambda item, _invent: yunpian_form("sms_reply", item),
    lambda item: str(item["sid"]),
    (*without("sid", "mobile"), other("report_status", "MAYBE"), other("user_receive_time", "yesterday")),
    batches=True,
)
