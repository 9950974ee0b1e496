"""How each provider writes its callbacks, by its name.

A further provider that is to be simulated gets a row here, one in ``behaviour`` and, if it signs, one in ``signers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.simulator.chinese import ALIYUN, HUAWEI_MSGSMS, YUNPIAN
from receiver.simulator.forms import AFRICASTALKING, KANNEL, MESSAGEBIRD, PLIVO, TWILIO
from receiver.simulator.objects import INFOBIP, SINCH, TELNYX, VONAGE
from receiver.simulator.tencent import TENCENT
from receiver.simulator.topics import AMAZON_SNS, HUAWEI_SMN
from receiver.simulator.traffic import Shares, Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.providers.base import Provider
    from receiver.simulator.traffic import Style

STYLES: Final[Mapping[str, Style]] = {
    "tencent": TENCENT,
    "aliyun": ALIYUN,
    "huawei-msgsms": HUAWEI_MSGSMS,
    "huawei-smn": HUAWEI_SMN,
    "twilio": TWILIO,
    "vonage": VONAGE,
    "infobip": INFOBIP,
    "sinch": SINCH,
    "telnyx": TELNYX,
    "amazon-sns": AMAZON_SNS,
    "yunpian": YUNPIAN,
    "plivo": PLIVO,
    "messagebird": MESSAGEBIRD,
    "africastalking": AFRICASTALKING,
    "kannel": KANNEL,
}


def traffic_of(provider: type[Provider], batch: int, shares: Shares, seed: int | None) -> Traffic:
    """Return traffic of a provider. States that are not final come from providers that have them."""
    pending = shares.pending if provider.has_pending else 0.0
    return Traffic(STYLES[provider.name], batch, shares._replace(pending=pending), seed)
