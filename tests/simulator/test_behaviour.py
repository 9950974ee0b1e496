"""What each provider takes for an ack, and when it sends again."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver

from receiver.providers import PROVIDERS
from receiver.simulator.behaviour import ACKNOWLEDGED, BEHAVIOURS
from receiver.simulator.sender import UNKNOWN_HOST, Answered, insist, post
from receiver.simulator.traffic import Request


async def attempts(name, status, body=b""):
    """Return how often a provider attempts a callback that always gets this answer."""
    behaviour, count = BEHAVIOURS[name], 0

    async def attempt():
        nonlocal count
        count += 1
        return Answered(behaviour.outcome(status, body) if status else "cannot connect", status, 0.0)

    async def pause(_seconds):
        return False

    await insist(attempt, behaviour.pauses, behaviour.repeats, pause)
    return count


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_our_own_ack_is_an_ack_to_the_provider(name):
    ack = PROVIDERS[name].ack
    assert BEHAVIOURS[name].outcome(ack.status, ack.body) == ACKNOWLEDGED


@pytest.mark.parametrize("name", BEHAVIOURS)
@pytest.mark.parametrize("status", [400, 401, 429, 503])
def test_our_refusals_are_no_acks_to_the_provider(name, status):
    refusal = PROVIDERS[name]().refuse(status, "no")
    assert BEHAVIOURS[name].outcome(refusal.status, refusal.body) != ACKNOWLEDGED


@pytest.mark.parametrize(
    ("name", "status", "times"),
    [
        ("tencent", 503, 3),
        ("tencent", 200, 3),  # without a result
        ("aliyun", 503, 4),
        ("huawei-msgsms", 503, 1),
        ("huawei-smn", 503, 7),
        ("huawei-smn", 400, 1),
        ("twilio", 503, 1),
        ("twilio", 0, 2),
        ("sinch", 503, 16),
        ("sinch", 429, 16),
        ("sinch", 401, 1),
        ("amazon-sns", 500, 4),
        ("amazon-sns", 401, 1),
        ("amazon-sns", 0, 4),
        ("yunpian", 200, 4),
        ("telnyx", 503, 3),
        ("kannel", 503, 1),
    ],
)
async def test_a_callback_is_sent_as_often_as_its_provider_says(name, status, times):
    assert await attempts(name, status) == times


async def test_an_ack_ends_the_attempts():
    assert await attempts("tencent", 200, b'{"result":0}') == 1


@pytest.mark.parametrize(
    ("name", "status", "body", "outcome"),
    [
        ("tencent", 200, b'{"result":1}', "HTTP 200, result 1"),
        ("tencent", 200, b"\xff", "HTTP 200 without a result"),
        ("tencent", 200, b'{"result":false}', "HTTP 200 without a result"),
        ("tencent", 200, b"[]", "HTTP 200 without a result"),
        ("tencent", 503, b"{}", "HTTP 503"),
        ("aliyun", 200, b'{"code":"0"}', "HTTP 200 without a code"),
        ("yunpian", 503, b"SUCCESS", ACKNOWLEDGED),
        ("yunpian", 200, b"OK", "HTTP 200 without SUCCESS"),
        ("messagebird", 200, b"", "HTTP 200 without OK"),
    ],
)
def test_an_answer_is_told_in_words_that_can_be_counted(name, status, body, outcome):
    assert BEHAVIOURS[name].outcome(status, body) == outcome


def test_retries_can_be_bounded_and_never_added():
    yunpian = BEHAVIOURS["yunpian"]
    assert len(yunpian.at_most(1).pauses) == len(yunpian.at_most(1).reply_pauses) == 1
    assert yunpian.at_most(None) == yunpian
    assert yunpian.at_most(99) == yunpian


class NoNames(AbstractResolver):
    """A name service that knows no host, without a network."""

    async def resolve(self, host, port=0, family=0):
        raise OSError(f"no address for {host}, port {port}, family {family}")

    async def close(self):
        pass


async def test_a_host_without_an_address_is_not_called_a_closed_port():
    request = Request("POST", "http://sms.example.com/sms/callback", {}, b"[]")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=NoNames())) as session:
        assert (await post(session, request, BEHAVIOURS["tencent"])).outcome == UNKNOWN_HOST
