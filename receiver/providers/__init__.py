"""SMS providers. Each is one file and one line in ``PROVIDERS``; ``base`` defines the interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.providers.africastalking import AfricasTalking
from receiver.providers.aliyun import Aliyun
from receiver.providers.amazon_sns import AmazonSns
from receiver.providers.huawei_msgsms import HuaweiMsgsms
from receiver.providers.huawei_smn import HuaweiSmn
from receiver.providers.infobip import Infobip
from receiver.providers.kannel import Kannel
from receiver.providers.messagebird import MessageBird
from receiver.providers.plivo import Plivo
from receiver.providers.sinch import Sinch
from receiver.providers.telnyx import Telnyx
from receiver.providers.tencent import Tencent
from receiver.providers.twilio import Twilio
from receiver.providers.vonage import Vonage
from receiver.providers.yunpian import Yunpian

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.providers.base import Provider

#: By the name in ``/callbacks/{provider}/{project_id}``.
PROVIDERS: Final[Mapping[str, type[Provider]]] = {
    provider.name: provider
    for provider in (
        Tencent,
        Aliyun,
        HuaweiMsgsms,
        HuaweiSmn,
        Twilio,
        Vonage,
        Infobip,
        Sinch,
        Telnyx,
        AmazonSns,
        Yunpian,
        Plivo,
        MessageBird,
        AfricasTalking,
        Kannel,
    )
}
#: The provider of ``/sms/callback``, and of requests without a known provider.
DEFAULT: Final[type[Provider]] = Tencent
