"""What all signed providers share."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from receiver.errors import BadSignatureError, UnverifiableError
from receiver.providers.base import CallbackRequest
from receiver.providers.signatures import header, require_basic, seconds_of


def request_with(**headers):
    """Return a request with these headers."""
    return CallbackRequest("POST", "/", CIMultiDict(headers), b"")


@pytest.mark.parametrize("value", ["\udcff", "é"])
def test_a_signature_of_any_bytes_is_wrong_and_no_failure(value):
    """The server hands over bytes that are not UTF-8 as half surrogates, which cannot be encoded again."""
    with pytest.raises(BadSignatureError, match="is not ASCII"):
        header(request_with(Signature=value), "signature")


def test_without_a_signature_a_provider_is_refused_or_asked_to_send_again():
    with pytest.raises(BadSignatureError):
        header(request_with(), "signature")
    with pytest.raises(UnverifiableError):
        header(request_with(), "signature", retried=True)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "soon", "²", "9" * 400])
def test_a_time_is_a_number_of_seconds(text):
    with pytest.raises(BadSignatureError):
        seconds_of(text)


@pytest.mark.parametrize("authorization", ["Basic", "Basic YTpj", "Bearer YTpi", "YTpi", "Basic YTpi YTpi"])
def test_another_user_or_scheme_is_refused(authorization):
    with pytest.raises(BadSignatureError):
        require_basic(request_with(Authorization=authorization), ["a:b"])


@pytest.mark.parametrize("authorization", ["Basic YTpi", "basic  YTpi"])
def test_one_of_the_configured_users_is_enough(authorization):
    require_basic(request_with(Authorization=authorization), ["c:d", "a:b"])
