"""``receiver tail``."""

from __future__ import annotations

import asyncio
import json
import select
import signal
from typing import IO, TYPE_CHECKING

import pytest
from messages import REPLY, SUCCESS, body, reply, report
from redis import Redis
from servers import RedisServer, eventually, free_port

from receiver.cli.stream_reader import StreamReader
from receiver.embedded import valkey_binary
from receiver.settings import read_settings

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Run, Start
    from servers import Receiver

    from receiver.redis_client import Client


def _post(service: Receiver, *items: object) -> None:
    assert service.post(body(list(items)))[0] == 200


def test_events_are_shown_as_lines_for_people(service: Receiver, run: Run) -> None:
    _post(service, report("14:aa"))
    _post(service, report("14:bb", report_status="FAIL", errmsg="UNDELIV_601"))
    _post(service, reply("TD"))
    result = run("tail", "--from-start", "--count", "3")
    lines = result.stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["delivered", "failed", "reply"]
    assert "86 13800138000 DELIVRD  14:aa 用户短信送达成功" in lines[0]
    assert "UNDELIV_601 14:bb" in lines[1]
    assert lines[2].endswith("“TD” 短信签名")
    assert (result.returncode, result.stderr) == (0, "")


def test_json_is_exactly_what_is_in_the_stream(service: Receiver, cli_redis: Redis, run_here: Run) -> None:
    _post(service, report(description="带 空格 and 'quotes'"))
    ((_, fields),) = cli_redis.xrange(SUCCESS)
    assert run_here("tail", "--json", "--from-start", "-n1").stdout == fields["data"] + "\n"


def test_events_of_several_streams_come_in_their_order(service: Receiver, run_here: Run) -> None:
    for number in range(3):
        _post(service, reply(f"r{number}"))
        _post(service, report(f"s{number}"))
    lines = run_here("tail", "--from-start", "-n6").stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["reply", "delivered"] * 3


def test_mask_hides_numbers_and_words_of_people(service: Receiver, run_here: Run) -> None:
    _post(service, report(), reply("my secret"))
    shown = run_here("tail", "--from-start", "-n2", "--mask").stdout
    assert "138****8000" in shown
    assert "13800138000" not in shown
    assert "my secret" not in shown


def test_a_text_cannot_take_over_the_terminal(service: Receiver, run_here: Run) -> None:
    _post(service, reply("\x1b]0;owned\x07 two\nlines \u202e"))
    shown = run_here("tail", "--from-start", "-n1").stdout
    assert shown.count("\n") == 1
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_json_cannot_take_over_the_terminal_and_keeps_its_meaning(service: Receiver, run_here: Run) -> None:
    """C1 controls, which msgspec does not escape, and characters that turn the direction of a text."""
    text = "\x9b31m \x7f \u202e \u2066 \u200e \u200f \u061c 👩\u200d👩"
    _post(service, reply(text))
    shown = run_here("tail", "--json", "--from-start", "-n1").stdout
    assert not {"\x9b", "\x7f", "\u202e", "\u2066", "\u200e", "\u200f", "\u061c"} & set(shown)
    assert json.loads(shown)["data"]["reply"] == text


def test_a_person_sees_what_has_no_width(service: Receiver, run_here: Run) -> None:
    """Else two texts that differ look the same."""
    _post(service, reply("a\u200bb\u200cc\u200dd\u2060e\ufefff\u200eg\u061ch"))
    shown = run_here("tail", "--from-start", "-n1").stdout
    assert r"a\u200bb\u200cc\u200dd\u2060e\ufefff\u200eg\u061ch" in shown


def test_types_and_quarantine_are_chosen(service: Receiver, run_here: Run) -> None:
    _post(service, report("good"), report("bad", mobile=None), reply())
    assert "reply" in run_here("tail", "--from-start", "--type", "reply", "-n1").stdout
    assert "mobile: Missing data" in run_here("tail", "--from-start", "--quarantine", "-n3").stdout


def test_what_is_under_way_is_shown_where_it_is_published(
    service: Receiver, cli_redis: Redis, run_here: Run, tmp_path: Path
) -> None:
    """With what the provider tells of it: here no code, no country and no words. Elsewhere it is said why not."""
    _post(service, report("14:aa"))
    data = {"message_id": "m1", "status": 0, "status_desc": "sent", "mobile": "+31612345678"}
    event = {"type": "sms_sent_event", "source": "/messagebird/default", "data": data}
    cli_redis.xadd("urn:smn:local:default:sms_sent", {"data": json.dumps(event)})
    refused = run_here("tail", "--type", "sent", "--from-start", "-n1")
    assert "no project publishes states that are not final" in refused.stderr
    config = tmp_path / "receiver.toml"
    config.write_text("[projects.default]\n[projects.default.providers.messagebird]\npending = true\n")
    shown = run_here("tail", "--from-start", "-n2", RECEIVER_CONFIG=str(config)).stdout
    assert "sent      +31612345678 sent     m1\n" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_only_new_events_are_shown_until_a_signal_ends_it(
    service: Receiver, start: Start, number: signal.Signals
) -> None:
    _post(service, report("before"))
    process = start("tail", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    wanted = 0

    def post_another() -> bool:  # until it has begun to listen
        nonlocal wanted
        wanted += 1
        _post(service, report(f"after{wanted}"))
        return bool(_ready(process.stdout))

    eventually(post_another, "an event is shown")
    assert '"message_id":"after' in process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors.strip() == ""


def test_a_restart_of_redis_is_waited_for(tmp_path: Path, start: Start, environ: dict[str, str]) -> None:
    port = free_port()
    server = RedisServer(valkey_binary(), tmp_path, port)
    try:
        with Redis.from_url(server.url) as client:
            client.xadd(SUCCESS, {"data": '{"type":"sms_success_event","data":{"message_id":"one"}}'})
        process = start("tail", "--from-start", "--count", "2", **(environ | {"REDIS_URL": server.url}))
        assert process.stdout is not None
        assert process.stderr is not None
        assert "one" in process.stdout.readline()
        server.kill()
        assert "cannot be reached" in process.stderr.readline()
        server = RedisServer(valkey_binary(), tmp_path, port)
        with Redis.from_url(server.url) as client:
            client.xadd(REPLY, {"data": '{"type":"sms_reply_event","data":{"reply":"two"}}'})
        output, errors = process.communicate(timeout=10)
    finally:
        server.kill()
    assert "two" in output
    assert "back" in errors
    assert process.returncode == 0


def test_a_redis_that_is_not_there_is_one_sentence_without_its_password(run: Run) -> None:
    result = run("tail", REDIS_URL=f"redis://user:hunter2@127.0.0.1:{free_port()}/0")
    assert result.returncode == 2
    assert "cannot be reached: Connection refused" in result.stderr
    assert "hunter2" not in result.stderr
    assert result.stderr.count("\n") == 1


def _ready(stream: IO[str]) -> bool:
    return bool(select.select([stream], [], [], 0.2)[0])


async def test_what_passes_is_waited_for_and_the_reader_goes_on(cli_redis: Redis, environ: dict[str, str]) -> None:
    """A primary that becomes a replica ends a blocked read with -UNBLOCKED, as CLIENT UNBLOCK does."""
    told: list[str] = []
    read: list[bytes] = []

    async def topics(_client: Client) -> list[str]:
        return [SUCCESS]

    async def read_on() -> None:
        async for batch in StreamReader(read_settings(environ), topics, 1e12, told.append).entries():
            read.extend(batch)

    cli_redis.xadd(SUCCESS, {"data": "one"})
    reading = asyncio.create_task(read_on())
    async with asyncio.timeout(20):
        while not told:
            for one in cli_redis.client_list():
                if one["cmd"] == "xread":
                    cli_redis.execute_command("CLIENT", "UNBLOCK", one["id"], "ERROR")
            await asyncio.wait({reading}, timeout=0.02)
            assert not reading.done(), reading
        cli_redis.xadd(SUCCESS, {"data": "two"})
        while len(read) < 2:
            await asyncio.wait({reading}, timeout=0.02)
    reading.cancel()
    await asyncio.wait({reading})
    assert read == [b"one", b"two"]
    assert "UNBLOCKED" in told[0]
