"""Every sample of every provider, through a socket, against ``receiver serve``.

The samples are signed for one moment and, at some providers, for one URL. So each sample sets the clock of the
services, and there are as many services as the project ``default`` needs different options.
"""

from __future__ import annotations

import json
import re
import struct
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import pytest_asyncio
from http_wire import Answer, ask
from https_proxy import HttpsProxy
from redis import Redis
from servers import Receiver, eventually

from receiver.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

Sample = dict[str, Any]

PAYLOADS = Path(__file__).parents[1] / "payloads"
SAMPLES: list[tuple[str, Sample]] = [
    (name, sample)
    for name in PROVIDERS
    if (PAYLOADS / name / "samples.json").exists()
    for sample in json.loads((PAYLOADS / name / "samples.json").read_text(encoding="utf-8"))
]
NOW = "2026-03-01T02:00:06Z"
#: Options with the secrets that a sample is signed with.
SECRETS = {
    "access_keys",
    "allowed_topics",
    "api_keys",
    "auth_tokens",
    "credentials",
    "public_keys",
    "signature_secrets",
    "signing_keys",
    "webhook_secrets",
}
#: Headers that hold a signature, or credentials. Plivo's may hold several signatures.
SIGNATURE_HEADERS = {
    "authorization",
    "messagebird-signature-jwt",
    "telnyx-signature-ed25519",
    "x-plivo-signature-ma-v2",
    "x-plivo-signature-ma-v3",
    "x-plivo-signature-v2",
    "x-plivo-signature-v3",
    "x-sinch-webhook-signature",
    "x-twilio-signature",
}
#: A signature in a body or a query: SNS and SMN, Vonage's as JSON and as a form, Yunpian's.
SIGNATURE = re.compile(r'(?:"[Ss]ignature": ?"|"sig": ?"|\bsig=|_sign\W[^_]*?)([A-Za-z0-9+/=]{32,})')
#: Their signatures cover the path, and with it the id of the project.
PATH_IS_SIGNED = {name for name, provider in PROVIDERS.items() if provider.signs_url} | {"huawei-msgsms"}
#: What providers may have the service fetch, and nothing else.
CERTIFICATES = {
    url: text
    for _, sample in SAMPLES
    if sample["expect"]["status"] == 200
    for url, text in sample.get("certificates", {}).items()
}
#: The clock of a service: ``time.time`` as a number in a file. libfaketime can be set while a process runs, but then
#: makes each callback 50 times slower.
CLOCK = """
import mmap, os, struct, time
with open(os.environ["TEST_CLOCK"], "r+b") as file:
    clock = mmap.mmap(file.fileno(), 8)
time.time = lambda: struct.unpack("d", clock)[0]
"""


class Place(NamedTuple):
    """Where a sample is sent: the number of a service, and one of its projects."""

    service: int
    project: str


def is_signed(sample: Sample) -> bool:
    """Tell whether the project of a sample has secrets."""
    return not SECRETS.isdisjoint(sample.get("options", {}))


def options_of(name: str, sample: Sample) -> str:
    """Return the options of a sample's project as TOML."""
    lines = [f"[projects.ID.providers.{name}]"] if sample.get("options") else []
    for option, value in sample.get("options", {}).items():
        if isinstance(value, dict):
            value = "{ " + ", ".join(f"{key} = {json.dumps(one)}" for key, one in value.items()) + " }"  # noqa: PLW2901
            lines.append(f"{option} = {value}")
        else:
            lines.append(f"{option} = {json.dumps(value)}")
    return "\n".join(lines)


def places() -> tuple[dict[tuple[str, str], Place], list[str]]:
    """Return the place of each provider's options, and the TOML file of each service."""
    found: dict[tuple[str, str], Place] = {}
    defaults: list[str] = []
    others: list[str] = []
    used = dict.fromkeys(PATH_IS_SIGNED, 0)
    for name, sample in SAMPLES:
        options = options_of(name, sample)
        if (name, options) in found:
            continue
        if name in PATH_IS_SIGNED and is_signed(sample):
            place = Place(used[name], "default")
            used[name] += 1
            defaults += [""] * (used[name] - len(defaults))
            defaults[place.service] += options.replace("ID", "default") + "\n"
        else:
            place = Place(0, f"p{len(others)}")
            others.append(f"[projects.{place.project}]\n{options.replace('ID', place.project)}\n")
        found[name, options] = place
    files = [f'[projects.default]\npublic_url = "https://sms.example.com"\n{options}' for options in defaults]
    files[0] += "\n".join(others)
    return found, files


PLACES, FILES = places()


def place_of(name: str, sample: Sample) -> Place:
    """Return where a sample is sent."""
    return PLACES[name, options_of(name, sample)]


class Services:
    """The services under test, with their clock, their Redis and the hosts that they fetch from."""

    def __init__(self, receivers: list[Receiver], clock: Path, redis: Redis, proxy: HttpsProxy) -> None:
        """Take the parts."""
        self._receivers = receivers
        self._clock = clock
        self._addresses = (f"192.0.2.{number % 250}, 2001:db8:{number:x}::1" for number in count())
        self.redis = redis
        self.proxy = proxy

    async def send(self, sample: Sample, place: Place) -> Answer:
        """Send a sample at its time. Each comes from another address, so that wrong signatures are not rate limited."""
        with self._clock.open("r+b") as file:  # in place: the services have it mapped
            file.write(seconds(sample.get("now", NOW)))
        body = sample["body"].encode()
        target = sample["path_query"].replace("/default", f"/{place.project}", 1)
        headers = {"Content-Length": str(len(body)), "X-Forwarded-For": next(self._addresses), **sample["headers"]}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"{sample['method']} {target} HTTP/1.1\r\n{head}\r\n".encode() + body
        return await ask(self._receivers[place.service].port, request)

    def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Return the data of all events by the last part of their topics, in the order received."""
        streams: dict[str, list[dict[str, Any]]] = {}
        for topic in self.redis.scan_iter("urn:*", count=1000, _type="stream"):
            entries = self.redis.xrange(topic)
            streams[topic.decode().rpartition(":")[2]] = [json.loads(fields[b"data"])["data"] for _, fields in entries]
        return streams

    def stored_count(self) -> int:
        """Return how many events are stored."""
        return sum(map(len, self.stored().values()))


def seconds(moment: str) -> bytes:
    """Return a moment as the clock has it."""
    return struct.pack("d", datetime.fromisoformat(moment).timestamp())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started(valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    """Start all services."""
    folder = tmp_path_factory.mktemp("providers")
    clock = folder / "clock"
    clock.write_bytes(seconds(NOW))
    (folder / "sitecustomize.py").write_text(CLOCK, encoding="ascii")
    async with HttpsProxy(folder) as proxy:
        environ = {
            "REDIS_URL": valkey.url,
            "PYTHONPATH": str(folder),
            "TEST_CLOCK": str(clock),
            "SSL_CERT_FILE": str(proxy.certificates),
            "RECEIVER_FETCH_PROXY": proxy.url,
            "RECEIVER_ALLOW_OPEN": "1",
            "RECEIVER_TRUSTED_PROXIES": "127.0.0.1",
            "RECEIVER_PUBLISH_TIMEOUT": "1.2s",
        }
        receivers = []
        for number, toml in enumerate(FILES):
            config = folder / f"{number}.toml"
            config.write_text(toml, encoding="utf-8")
            own = {**environ, "RECEIVER_CONFIG": str(config)}
            receivers.append(Receiver(folder / f"service{number}", own, wait=False))
        for receiver in receivers:
            eventually(receiver.ready, "the service is ready", 30)
        with Redis.from_url(valkey.url) as redis:
            yield Services(receivers, clock, redis, proxy)
        assert [receiver.stop() for receiver in receivers] == [0] * len(receivers)
        assert not [line for one in receivers for line in one.output.splitlines() if "Traceback" in line]


@pytest.fixture
def services(started: Services) -> Iterator[Services]:
    """Return the services with an empty Redis and the hosts of all certificates and confirmations."""
    started.redis.flushall()
    started.proxy.requested.clear()
    started.proxy.pages = {url: (200, text.encode(), 0) for url, text in CERTIFICATES.items()}
    started.proxy.pages |= {url: (200, b"", 0) for _, sample in SAMPLES if (url := sample["expect"].get("fetch"))}
    yield started
    assert set(started.proxy.requested) <= set(started.proxy.pages)


def cases(chosen: list[tuple[str, Sample]]) -> pytest.MarkDecorator:
    """Return a parametrization with these samples."""
    ids = [f"{name}: {sample['name']}" for name, sample in chosen]
    return pytest.mark.parametrize(("name", "sample"), chosen, ids=ids)


@cases(SAMPLES)
async def test_a_sample_is_answered_and_stored(services: Services, name: str, sample: Sample) -> None:
    """Status, body, events, quarantine and fetches are as expected."""
    expected = sample["expect"]
    answer = await services.send(sample, place_of(name, sample))
    assert answer.status == expected["status"]
    if expected["ack_body"] is not None:
        assert answer.body.decode() == expected["ack_body"]
    quarantined = expected.get("quarantined", 1 if expected["status"] == 400 else 0)
    wanted = [dict(event) for event in expected["events"]]
    eventually(lambda: services.stored_count() >= len(wanted) + quarantined, "all is stored")
    stored = services.stored()
    assert len(stored.pop("quarantine", [])) == quarantined
    for topic in {*stored, *(event["type"].removesuffix("_event") for event in wanted)}:
        kept, known = stored.get(topic, []), [event for event in wanted if event["type"] == f"{topic}_event"]
        assert len(kept) == len(known), topic
        for event, members in zip(kept, known, strict=True):
            extra = members.pop("extra", {})
            assert extra.items() <= event.get("extra", {}).items()
            assert members.items() <= {**event, "type": event["event_type"]}.items()
    confirmations = [url for url in services.proxy.requested if url not in CERTIFICATES]
    assert confirmations == [url for url in (expected.get("fetch"),) if url]


def signatures(sample: Sample) -> list[tuple[dict[str, str], str, re.Match[str]]]:
    """Return where the signatures of a sample are: what holds them, under which key, and the match."""
    found: list[tuple[dict[str, str], str, re.Match[str]]] = [
        (sample["headers"], header, match)
        for header, value in sample["headers"].items()
        if header.lower() in SIGNATURE_HEADERS
        for match in re.finditer(r"([^,\s]{5,})(?=$|,)", value)
    ]
    parts = [(sample, part, SIGNATURE.search(sample[part])) for part in ("body", "path_query")]
    return found or [(holder, part, match) for holder, part, match in parts if match]


def with_broken_signature(sample: Sample) -> Sample:
    """Return a sample of which one byte of each signature is another."""
    broken = {**sample, "headers": dict(sample["headers"])}
    for holder, part, match in signatures(broken):
        at = match.end(1) - 5  # before any padding, and before the last digit, which has bits without meaning
        text = holder[part]
        holder[part] = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
    return broken


ACCEPTED_BY_SIGNATURE = [
    (name, sample)
    for name, sample in SAMPLES
    if is_signed(sample) and sample["expect"]["status"] == 200 and signatures(sample)
]


@cases(ACCEPTED_BY_SIGNATURE)
async def test_one_wrong_byte_in_the_signature_is_401_and_nothing_is_stored(
    services: Services, name: str, sample: Sample
) -> None:
    """Nothing is confirmed either."""
    answer = await services.send(with_broken_signature(sample), place_of(name, sample))
    assert answer.status == 401
    assert services.stored_count() == 0
    assert set(services.proxy.requested) <= set(CERTIFICATES)


async def test_the_signed_samples_cover_each_provider_that_signs() -> None:
    """A sample whose signature is not found would not be broken."""
    signed = [(name, sample) for name, sample in SAMPLES if is_signed(sample) and sample["expect"]["status"] == 200]
    missing = [
        sample["name"] for name, sample in signed if (name, sample) not in ACCEPTED_BY_SIGNATURE and name != "yunpian"
    ]
    assert missing == ["the check of a URL where a secret is configured"]  # Yunpian does not sign its reports
    assert {name for name, _ in ACCEPTED_BY_SIGNATURE} == {name for name, _ in signed}


@cases([(name, sample) for name, sample in SAMPLES if "same_as" in sample["expect"]])
async def test_a_retry_gives_one_entry(services: Services, name: str, sample: Sample) -> None:
    """It comes in another envelope, with another clock, nonce or signature."""
    first = next(one for other, one in SAMPLES if (other, one["name"]) == (name, sample["expect"]["same_as"]))
    place = place_of(name, sample if is_signed(first) else first)
    statuses = {first["expect"]["status"]}
    assert {(await services.send(first, place)).status} == statuses
    entries = eventually(services.stored_count, "the first is stored")
    assert {(await services.send(one, place)).status for one in (sample, first, sample)} == statuses
    assert services.stored_count() == entries
