"""``receiver simulate --provider NAME`` over a real socket: one service for all providers, signed and unsigned."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from https_proxy import HttpsProxy
from redis import Redis
from servers import Receiver, RedisServer

from receiver.cli import receiver as command
from receiver.embedded import valkey_binary
from receiver.errors import ReceiverError
from receiver.simulator.private_keys import make_key, public_key
from receiver.simulator.styles import STYLES

CERTIFICATES = {
    "amazon-sns": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-simulated.pem",
    "huawei-smn": "https://smn.cn-north-4.myhuaweicloud.com/smn/SMN_cn-north-4_simulated.pem",
}
SIGNED = """
[projects.signed]
callback_keys = ["a key & more of it"]
public_url = "https://sms.example.com"
[projects.signed.providers]
twilio = {{auth_tokens = ["twilio-token"]}}
plivo = {{auth_tokens = ["plivo-token"], require_v3 = true}}
messagebird = {{signing_keys = ["messagebird-key-of-thirty-two-byte"]}}
vonage = {{signature_secrets = ["vonage-secret-of-thirty-two-bytes"], signature_method = "{method}"}}
infobip = {{credentials = ["user:pass-of-infobip"]}}
sinch = {{webhook_secrets = ["sinch-secret"], credentials = ["user:pass-of-infobip"]}}
telnyx = {{public_keys = ["{telnyx}"]}}
yunpian = {{api_keys = ["yunpian-key"]}}
huawei-msgsms = {{access_keys = {{AK = "sk-of-huawei"}}}}
amazon-sns = {{allowed_topics = ["arn:aws:sns:us-east-1:123456789012:sms"]}}
huawei-smn = {{allowed_topics = ["urn:smn:cn-north-4:f96188c7ccaf4ffba0c9aa149ab2bd57:sms"]}}

[projects.keyed]
default = true
callback_keys = ["another key"]
"""


class Running:
    """The service, its Redis, and what simulated providers need."""

    def __init__(self, folder, redis, proxy) -> None:
        """Make keys, write the configuration, start the service."""
        self.redis, self.folder = redis, folder
        self.keys = dict.fromkeys(CERTIFICATES, folder / "rsa.pem") | {"telnyx": folder / "telnyx.pem"}
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.keys["amazon-sns"].write_bytes(pem)
        for url in CERTIFICATES.values():
            proxy.pages[url] = (200, certificate_of(key), 0)
        config = folder / "receiver.toml"
        telnyx = public_key(make_key(self.keys["telnyx"]))
        config.write_text(SIGNED.format(telnyx=telnyx, method="sha512"))
        self.environ = {"REDIS_URL": redis.url, "RECEIVER_CONFIG": str(config)}
        fetching = {"RECEIVER_FETCH_PROXY": proxy.url, "SSL_CERT_FILE": str(proxy.certificates)}
        self.service = Receiver(folder, self.environ | fetching)

    def simulate(self, name, *arguments):
        """Run ``receiver simulate``; return the exit code and the summary, or the error."""
        common = ("simulate", "--provider", name, "--json", "--rate", "0", "--retry-pause", "0.001", "--timeout", "10")
        environ = self.environ | {"PORT": str(self.service.port)}
        result = CliRunner().invoke(command, [*common, *arguments], env=environ)
        if isinstance(result.exception, ReceiverError):
            return 2, str(result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, json.loads(result.stdout)


def certificate_of(key):
    """Return a certificate that is valid today, and signed by its own key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "simulated")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """Return a proxy that is every https host, on an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = HttpsProxy(tmp_path_factory.mktemp("authority"))
    asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result(10)
    yield proxy
    asyncio.run_coroutine_threadsafe(proxy.__aexit__(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory, proxy):
    """Return the service, with a Valkey of its own."""
    server = RedisServer(valkey_binary(), tmp_path_factory.mktemp("valkey"))
    running = Running(tmp_path_factory.mktemp("service"), server, proxy)
    yield running
    running.service.stop()
    server.stop()


@pytest.fixture
def redis(running):
    """Return a client of the service's Redis, which is empty."""
    with Redis.from_url(running.redis.url, decode_responses=True) as client:
        client.flushall()
        yield client


def entries(redis, project):
    """Return the number of entries by event type, the quarantine's as well."""
    topics = redis.scan_iter(f"urn:smn:local:{project}:*", _type="stream")
    return {topic.rpartition(":")[2]: redis.xlen(topic) for topic in topics}


def key_of(running, name):
    """Return the arguments that give a provider its own key."""
    key = ["--private-key", str(running.keys[name])] if name in running.keys else []
    return [*key, *(["--certificate-url", CERTIFICATES[name]] if name in CERTIFICATES else [])]


@pytest.mark.parametrize("name", STYLES)
def test_signed_traffic_is_acknowledged_and_becomes_events(running, redis, name):
    shares = ("--reply-share", ".3", "--fail-share", ".3", "--duplicate-share", ".2")
    code, summary = running.simulate(name, "--project", "signed", "--count", "40", *shares, *key_of(running, name))
    assert (code, set(summary["answers"])) == (0, {"acknowledged"})
    assert summary["acknowledged"] == 40
    found = entries(redis, "signed")
    assert set(found) == {"sms_success", "sms_fail", "sms_reply"}
    assert sum(found.values()) == summary["events_acknowledged"]
    assert summary["invalid_items_acknowledged"] == 0


@pytest.mark.parametrize("name", sorted(STYLES.keys() - CERTIFICATES))
def test_traffic_that_is_not_signed_is_acknowledged_by_its_key(running, redis, name):
    code, summary = running.simulate(name, "--count", "20", "--reply-share", ".3")
    assert (code, set(summary["answers"])) == (0, {"acknowledged"})
    assert sum(entries(redis, "keyed").values()) == summary["events_acknowledged"] > 0
    assert "another" not in summary["url"]


@pytest.mark.parametrize("name", sorted(STYLES.keys() - {"tencent", "aliyun", "africastalking", "kannel"}))
def test_without_its_signature_traffic_is_refused(running, redis, name):
    shares = ("--reply-share", "1", "--retries", "1")
    code, summary = running.simulate(name, "--project", "signed", "--count", "4", "--unsigned", *shares)
    assert (code, summary["acknowledged"]) == (1, 0)
    # 429 after many failures. Vonage is asked with 503 for what it did not sign.
    assert not summary["answers"].keys() - {"HTTP 401", "HTTP 429", "HTTP 503"}
    assert entries(redis, "signed") == {}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_nobody_can_sign_for_a_provider_with_a_certificate(running, name):
    code, error = running.simulate(name, "--project", "signed")
    assert code == 2
    assert "RECEIVER_FETCH_PROXY" in error


def test_a_key_for_telnyx_is_made_and_its_public_key_shown(running, tmp_path):
    path = tmp_path / "new.pem"
    (code, error), (_, again) = (
        running.simulate("telnyx", "--project", "signed", "--private-key", str(path)) for _ in range(2)
    )
    assert code == 2
    assert 'public_keys = ["' in error
    assert "[projects.signed.providers.telnyx]" in error
    assert again == error
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n"])
def test_a_file_without_a_key_is_a_sentence(running, tmp_path, text):
    path = tmp_path / "wrong.pem"
    path.write_text(text)
    code, error = running.simulate("amazon-sns", "--project", "signed", "--private-key", str(path))
    assert code == 2
    assert "holds no private key" in error
    assert "cannot read" in running.simulate("huawei-smn", "--private-key", str(tmp_path / "none"))[1]
