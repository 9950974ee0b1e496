"""Signing as each provider does, with the first of a project's secrets. ``receiver/providers`` verifies it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from receiver.errors import ReceiverError
from receiver.simulator.chinese import yunpian_form
from receiver.simulator.topics import AMAZON, SMN, topic_signer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from receiver.providers.base import Provider
    from receiver.providers.huawei_msgsms import HuaweiMsgsms
    from receiver.providers.infobip import Infobip
    from receiver.providers.messagebird import MessageBird
    from receiver.providers.plivo import Plivo
    from receiver.providers.sinch import Sinch
    from receiver.providers.telnyx import Telnyx
    from receiver.providers.twilio import Twilio
    from receiver.providers.vonage import Vonage
    from receiver.providers.yunpian import Yunpian
    from receiver.simulator.private_keys import PrivateKey
    from receiver.simulator.traffic import Request, Signer

#: Seconds that a token of MessageBird is valid.
_VALID: Final = 60
_REPLY: Final = b"sms_reply="
_CERTIFIED: Final = (
    "Its certificate is on its own host, so that nobody else can sign for it. Where the service fetches certificates "
    "through a proxy of yours (RECEIVER_FETCH_PROXY), give --private-key and --certificate-url. --unsigned shows how "
    "the service refuses callbacks that are not signed."
)
#: What to do about the key of a provider.
_HOW: Final = {
    "telnyx": "Give a private key with --private-key FILE; it is made when there is no such file.",
    "huawei-smn": _CERTIFIED,
    "amazon-sns": _CERTIFIED,
}


def signer_of(provider: Provider, private_key: PrivateKey | None = None) -> Signer | None:
    """Return what signs for a project, or None if it verifies nothing. Raises ReceiverError without a key.

    ``private_key`` is for providers that sign with a key of their own.
    """
    if not provider.verifies:
        return None
    if provider.name not in _OWN_KEYS:
        return _SIGNERS[provider.name](provider)
    if private_key is None:
        raise ReceiverError(f"{provider.title} signs with a key of its own. {_HOW[provider.name]}")
    return _OWN_KEYS[provider.name](provider, private_key)


def _target(url: str) -> str:
    """Return path and query, as the service receives them."""
    parts = urlsplit(url)
    return f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"


def _with(request: Request, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request._replace(headers={**request.headers, **named})


def _base64_hmac(secret: str, text: str | bytes, digest: str = "sha256") -> str:
    data = text if isinstance(text, bytes) else text.encode()
    return b64encode(hmac.digest(secret.encode(), data, digest)).decode()


def _basic(credentials: str) -> str:
    return f"Basic {b64encode(credentials.encode()).decode()}"


def _parameters(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.body.decode(), keep_blank_values=True)


def _twilio(provider: Twilio) -> Signer:
    (token, *_), public_url = provider.options.auth_tokens, provider.public_url

    def sign(request: Request, _now: float) -> Request:
        parameters = "".join(name + value for name, value in sorted(set(_parameters(request))))
        text = f"{public_url}{_target(request.url)}{parameters}"
        return _with(request, X_Twilio_Signature=_base64_hmac(token, text, "sha1"))

    return sign


def _plivo(provider: Plivo) -> Signer:
    """Sign with version 3, which covers the parameters."""
    (token, *_), public_url = provider.options.auth_tokens, provider.public_url

    def sign(request: Request, _now: float) -> Request:
        path, _, query = _target(request.url).partition("?")
        ordered = "&".join(f"{name}={value}" for name, value in sorted(parse_qsl(query, keep_blank_values=True)))
        form = "".join(name + value for name, value in sorted(_parameters(request)))
        nonce = secrets.token_hex(10)
        text = f"{public_url}{path}?{ordered}{'.' if ordered else ''}{form}.{nonce}"
        signature = _base64_hmac(token, text)
        return _with(request, X_Plivo_Signature_V3=signature, X_Plivo_Signature_V3_Nonce=nonce)

    return sign


def _messagebird(provider: MessageBird) -> Signer:
    (key, *_), public_url = provider.options.signing_keys, provider.public_url

    def sign(request: Request, now: float) -> Request:
        url = f"{public_url}{_target(request.url)}"
        claims: dict[str, Any] = {
            "iss": "MessageBird",
            "nbf": int(now),
            "exp": int(now) + _VALID,
            "jti": secrets.token_hex(16),
            "url_hash": hashlib.sha256(url.encode()).hexdigest(),
        }
        if request.body:
            claims["payload_hash"] = hashlib.sha256(request.body).hexdigest()
        return _with(request, MessageBird_Signature_JWT=jwt.encode(claims, key, "HS256"))

    return sign


def _vonage(provider: Vonage) -> Signer:
    """Sign with a token for the Messages API, and among the parameters for the SMS API."""
    (secret, *_), method = provider.options.signature_secrets, provider.options.signature_method

    def sign_token(request: Request, now: float) -> Request:
        payload_hash = hashlib.sha256(request.body).hexdigest()
        claims = {"iss": "Vonage", "iat": int(now), "jti": secrets.token_hex(16), "payload_hash": payload_hash}
        return _with(request, Authorization=f"Bearer {jwt.encode(claims, secret, 'HS256')}")

    def sign_parameters(request: Request, now: float) -> Request:
        pairs = [*_parameters(request), ("nonce", secrets.token_hex(16)), ("timestamp", str(int(now)))]
        values = {name: value.replace("&", "_").replace("=", "_") for name, value in pairs}
        text = "".join(f"&{name}={values[name]}" for name in sorted(values)).encode()
        if method == "md5hash":
            signature = hashlib.md5(text + secret.encode(), usedforsecurity=False).hexdigest()
        else:
            signature = hmac.digest(secret.encode(), text, method).hex()
        return request._replace(body=urlencode([*pairs, ("sig", signature)]).encode())

    return lambda request, now: (sign_token if request.body[:1] == b"{" else sign_parameters)(request, now)


def _infobip(provider: Infobip) -> Signer:
    authorization = _basic(provider.options.credentials[0])
    return lambda request, _now: _with(request, Authorization=authorization)


def _sinch(provider: Sinch) -> Signer:
    options = provider.options

    def sign(request: Request, now: float) -> Request:
        if options.credentials:
            request = _with(request, Authorization=_basic(options.credentials[0]))
        if options.webhook_secrets:
            nonce, time = secrets.token_hex(13), str(int(now))
            text = b".".join((request.body, nonce.encode(), time.encode()))
            request = _with(
                request,
                x_sinch_webhook_signature=_base64_hmac(options.webhook_secrets[0], text),
                x_sinch_webhook_signature_nonce=nonce,
                x_sinch_webhook_signature_timestamp=time,
                x_sinch_webhook_signature_algorithm="HmacSHA256",
            )
        return request

    return sign


def _yunpian(provider: Yunpian) -> Signer:
    """Sign replies; reports are not signed."""
    key = provider.options.api_keys[0]

    def sign(request: Request, _now: float) -> Request:
        if not request.body.startswith(_REPLY):
            return request
        item = msgspec.json.decode(dict(_parameters(request))["sms_reply"])
        text = ",".join([*(str(item[name]) for name in sorted(item)), key])
        item["_sign"] = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        return request._replace(body=yunpian_form("sms_reply", item).body)

    return sign


def _huawei_msgsms(provider: HuaweiMsgsms) -> Signer:
    """Sign with AK/SK: https://support.huaweicloud.com/intl/en-us/api-msgsms/sms_05_0064.html."""
    (access_key, secret_key), *_ = (provider.options.access_keys or {}).items()
    names = "content-type;host;x-sdk-date"

    def sign(request: Request, now: float) -> Request:
        date, parts = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ"), urlsplit(request.url)
        request = _with(request, Host=parts.netloc, X_Sdk_Date=date)
        pairs = sorted(parse_qsl(parts.query, keep_blank_values=True))
        canonical = (
            request.method,
            f"{parts.path.rstrip('/')}/",
            "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs),
            f"content-type:{request.headers['Content-Type']}\nhost:{parts.netloc}\nx-sdk-date:{date}\n",
            names,
            hashlib.sha256(request.body).hexdigest(),
        )
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        text = f"SDK-HMAC-SHA256\n{date}\n{digest}"
        signature = hmac.digest(secret_key.encode(), text.encode(), "sha256").hex()
        authorization = f"SDK-HMAC-SHA256 Access={access_key}, SignedHeaders={names}, Signature={signature}"
        return _with(request, Authorization=authorization)

    return sign


def _telnyx(_provider: Telnyx, private_key: PrivateKey) -> Signer:
    key = private_key.key
    if not isinstance(key, Ed25519PrivateKey):
        raise ReceiverError("Telnyx signs with Ed25519: --private-key has a key of another kind.")

    def sign(request: Request, now: float) -> Request:
        time = str(int(now))
        signature = b64encode(key.sign(time.encode() + b"|" + request.body)).decode()
        return _with(request, telnyx_timestamp=time, telnyx_signature_ed25519=signature)

    return sign


_SIGNERS: Final[Mapping[str, Callable[[Any], Signer]]] = {
    "huawei-msgsms": _huawei_msgsms,
    "twilio": _twilio,
    "vonage": _vonage,
    "infobip": _infobip,
    "sinch": _sinch,
    "yunpian": _yunpian,
    "plivo": _plivo,
    "messagebird": _messagebird,
}
_OWN_KEYS: Final[Mapping[str, Callable[[Any, PrivateKey], Signer]]] = {
    "telnyx": _telnyx,
    "huawei-smn": topic_signer(SMN),
    "amazon-sns": topic_signer(AMAZON),
}
#: The providers that can sign.
SIGNED: Final = frozenset((*_SIGNERS, *_OWN_KEYS))
