"""``receiver simulate``: a provider that behaves as Tencent does, and how others differ."""

from __future__ import annotations

import json
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from messages import FAIL, QUARANTINE, REPLY, SUCCESS
from servers import eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cli.conftest import Run, Start
    from redis import Redis
    from servers import Receiver

_FAST = ("--rate", "0", "--retry-pause", "0.01")


class Answering(ThreadingHTTPServer):
    """A receiver of our own making, that answers each body as a list says, the last answer for ever."""

    def __init__(self, answers: list[tuple[int, bytes]]) -> None:
        """Listen on a free port."""
        self.answers = answers
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.server_port}/sms/callback"


class _Handler(BaseHTTPRequestHandler):
    server: Answering
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.server.answers[min(self.server.bodies.count(body), len(self.server.answers) - 1)]
        self.server.bodies.append(body)
        self.server.paths.append(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Answer each push 503, then 200 with a result that is no ack, then the ack."""
    answers = [(503, b"{}"), (200, b'{"result":1,"errmsg":"no"}'), (200, b'{"result":0,"errmsg":"OK"}')]
    with Answering(answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_everything_acknowledged_is_in_the_streams(
    service: Receiver, cli_redis: Redis, run: Run, tmp_path: Path
) -> None:
    record = tmp_path / "sids"
    arguments = ("--count", "60", "--fail-share", "0.3", "--reply-share", "0.2", "--invalid-share", "0.1", *_FAST)
    result = run("simulate", *arguments, "--json", "--record", str(record), PORT=str(service.port))
    summary = json.loads(result.stdout)
    assert result.returncode == 0
    assert summary["answers"] == {"acknowledged": 60}
    events = [json.loads(fields["data"]) for topic in (SUCCESS, FAIL) for _, fields in cli_redis.xrange(topic)]
    assert sorted(record.read_text().split("\n")[:-1]) == sorted(event["data"]["message_id"] for event in events)
    assert summary["events_acknowledged"] == len(events) + cli_redis.xlen(REPLY)
    assert summary["invalid_items_acknowledged"] == cli_redis.xlen(QUARANTINE) > 0
    assert cli_redis.xlen(FAIL) > 0
    assert cli_redis.xlen(REPLY) > 0
    assert set(summary["latency_ms"]) == {"p50", "p90", "p99", "max"}


def test_the_same_seed_makes_only_duplicates(service: Receiver, cli_redis: Redis, run_here: Run) -> None:
    arguments = ("simulate", "--seed", "7", "--count", "20", "--duplicate-share", "1", *_FAST)
    assert "20 acknowledged" in run_here(*arguments, PORT=str(service.port)).stdout
    first = cli_redis.xlen(SUCCESS)
    assert "20 duplicates" in run_here(*arguments, PORT=str(service.port)).stdout
    assert cli_redis.xlen(SUCCESS) == first > 0


def test_a_push_is_sent_again_until_http_and_result_both_say_ok(answering: Answering, run_here: Run) -> None:
    result = run_here("simulate", "--url", answering.url, "--count", "4", "--json", *_FAST)
    summary = json.loads(result.stdout)
    assert summary["answers"] == {"HTTP 503": 4, "HTTP 200, result 1": 4, "acknowledged": 4}
    assert (summary["retries"], summary["given_up"], result.returncode) == (8, 0, 0)
    assert all(answering.bodies.count(body) == 3 for body in answering.bodies)


def test_after_two_retries_it_gives_up_and_says_so_with_its_exit_code(answering: Answering, run_here: Run) -> None:
    answering.answers[2:] = [(503, b"{}")]
    result = run_here("simulate", "--url", answering.url, "--count", "3", *_FAST)
    assert len(answering.bodies) == 9
    assert "3 given up" in result.stdout
    assert result.returncode == 1


def test_nobody_listening_is_counted_and_explained(run: Run) -> None:
    result = run("simulate", "--count", "2", *_FAST, PORT=str(free_port()))
    assert "cannot connect" in result.stdout
    assert "start `receiver serve`" in " ".join(result.stdout.split())
    assert result.returncode == 1


def test_a_service_without_tls_is_not_called_absent(answering: Answering, run_here: Run) -> None:
    url = answering.url.replace("http:", "https:")
    shown = run_here("simulate", "--count", "1", "--retries", "0", "--url", url, *_FAST).stdout
    assert ("TLS failed" in shown, "SSL_CERT_FILE" in shown, "receiver serve" in shown) == (True, True, False)


def test_the_key_of_the_default_project_is_used_and_not_shown(
    answering: Answering, run_here: Run, tmp_path: Path
) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text('[projects.a]\ncallback_keys = ["a key & more of it"]\n')
    answering.answers[:] = [(200, b'{"result":0}')]
    result = run_here("simulate", "--count", "1", RECEIVER_CONFIG=str(config), PORT=str(answering.server_port))
    assert result.returncode == 0
    assert "more" not in result.stdout


def test_ctrl_c_ends_an_endless_run_with_its_summary(answering: Answering, start: Start) -> None:
    answering.answers[:] = [(200, b'{"result":0}')]
    process = start("simulate", "--url", answering.url, "--count", "0", "--rate", "100")
    while not answering.bodies:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    assert "acknowledged" in output
    assert "Traceback" not in errors
    assert process.returncode == 0


@pytest.mark.parametrize("host", ["::1", "::"])
def test_a_service_on_ipv6_says_its_url_and_is_found_by_it(
    serve: Callable[..., Receiver], run_here: Run, host: str
) -> None:
    listening = serve(wait=False, RECEIVER_HOST=host, RECEIVER_ALLOW_OPEN="1")
    eventually(lambda: f"http://[{host}]:{listening.port}" in listening.output, "it says where it listens")
    result = run_here("simulate", "--count", "2", RECEIVER_HOST=host, PORT=str(listening.port), RECEIVER_ALLOW_OPEN="1")
    assert result.returncode == 0


@pytest.mark.parametrize(
    "url", ["foo", "127.0.0.1:8080/sms/callback", "ftp://host/", "http://", "http://h:port/", "http://[::1"]
)
def test_a_url_that_is_none_is_told_with_its_form(run_here: Run, url: str) -> None:
    result = run_here("simulate", "--url", url)
    assert result.returncode == 2
    assert "http://127.0.0.1:8080/sms/callback" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("replies", "attempts"), [("0", 4), ("1", 6)])
def test_each_provider_sends_again_as_often_as_it_does(
    answering: Answering, run_here: Run, replies: str, attempts: int
) -> None:
    """Yunpian sends a report three times more, a reply five times."""
    answering.answers[:] = [(503, b"")]
    arguments = ("--provider", "yunpian", "--url", answering.url, "--count", "1", "--reply-share", replies)
    summary = json.loads(run_here("simulate", *arguments, "--json", *_FAST).stdout)
    assert summary["answers"] == {"HTTP 503": attempts}
    bounded = json.loads(run_here("simulate", *arguments, "--retries", "1", "--json", *_FAST).stdout)
    assert bounded["retries"] == 1


def test_states_that_are_not_final_are_told_apart(answering: Answering, run_here: Run) -> None:
    answering.answers[:] = [(200, b"")]
    shares = ("--pending-share", "1", "--fail-share", "0", "--reply-share", "0")
    arguments = ("simulate", "--provider", "infobip", "--url", answering.url, "--count", "3", "--batch", "2", *shares)
    summary = json.loads(run_here(*arguments, "--json", *_FAST).stdout)
    assert (summary["events_acknowledged"], summary["pending_items_acknowledged"]) == (0, 6)
    assert "6 states that are not final" in run_here(*arguments, *_FAST).stdout


def test_a_project_that_is_not_there_is_told_with_those_that_are(run_here: Run) -> None:
    result = run_here("simulate", "--project", "nobody")
    assert result.returncode == 2
    assert "choose one of: default" in " ".join(result.stderr.split())


def test_a_url_is_sent_as_browsers_would(answering: Answering, run_here: Run) -> None:
    answering.answers[:] = [(200, b'{"result":0}')]
    result = run_here("simulate", "--url", f"{answering.url}?key=grün und%20blau#rc=3", "--count", "1", *_FAST)
    assert result.returncode == 0
    assert answering.paths == ["/sms/callback?key=gr%C3%BCn+und%20blau"]
