"""SIGHUP: the files of the projects are read again while callbacks come, and a broken file changes nothing."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Any

import pytest
from http_wire import request, wire
from messages import body, report
from redis import Redis
from runtime.test_index_process import indexes, said
from servers import RECEIVER, START_TIMEOUT, Child, Receiver, eventually, free_port

from receiver.chaos.processes import free_port as unused_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_OLD, _NEW, _TOKEN = "the-first-key-of-shop", "the-second-key-of-shop", "token-of-shop"
Serve = "Callable[..., Receiver]"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the path of a file with a project that has one key."""
    path = tmp_path / "receiver.toml"
    write(path, f'callback_keys = ["{_OLD}"]')
    return path


def write(path: Path, *lines: str) -> None:
    """Write a file with these lines of one project, as an editor does: in place of the old one, at once."""
    draft = path.with_suffix(".new")
    draft.write_text("\n".join(["[projects.shop]", *lines]), encoding="utf-8")
    draft.replace(path)


def post(service: Receiver, key: str, sid: str = "m-1", project: str = "shop") -> int:
    """Post a callback with a key, and return the status."""
    return service.post(body([report(sid)]), f"/sms/callback/{project}?key={key}")[0]


def reload(service: Receiver, times: int = 1, event: str = "settings.reloaded") -> None:
    """Ask for a reload, and wait until it is in force: with workers, until all are new ones."""
    before = set(service.children)
    service.signal(signal.SIGHUP)
    eventually(lambda: len(said(service, event)) == times, f"{event}, {times} times", START_TIMEOUT)
    if len(before) > 1 and event == "settings.reloaded":
        eventually(
            lambda: len(now := set(service.children)) == len(before) and not now & before, "new workers", START_TIMEOUT
        )
        eventually(service.ready, "they serve", START_TIMEOUT)


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Callable[[str, str], Child]]:
    """Start providers that post until they are asked to end, for two minutes at most.

    Each is returned once callbacks are acknowledged, and is ended with the test, also one that fails.
    """
    started: list[Child] = []

    def start(name: str, url: str) -> Child:
        record = tmp_path / f"{name}.ids"
        traffic = ["--count", "12000", "--rate", "100", "--batch", "1", "--record", str(record)]
        started.append(Child([*RECEIVER, "simulate", "--url", url, "--json", *traffic], tmp_path / f"{name}.json"))
        eventually(
            lambda: record.exists() and record.read_text().count("\n") > 20, f"{name}: acknowledged", START_TIMEOUT
        )
        return started[-1]

    yield start
    for provider in started:
        provider.kill()


def figures(provider: Child) -> dict[str, Any]:
    """End a provider, and return what it has seen."""
    provider.signal(signal.SIGINT)
    provider.process.wait(START_TIMEOUT)
    found: dict[str, Any] = json.loads(provider.output)
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_key_is_rotated_without_a_refused_callback(
    serve: Callable[..., Receiver], config: Path, simulate: Callable[[str, str], Child], workers: str
) -> None:
    """Two commands: edit the file, and SIGHUP; then the key changes at the provider, and the old one goes."""
    service = serve(RECEIVER_CONFIG=str(config), RECEIVER_WORKERS=workers)
    url = f"{service.url}/callbacks/tencent/shop?key="
    old = simulate("old", url + _OLD)
    write(config, f'callback_keys = ["{_NEW}", "{_OLD}"]')
    reload(service)
    new = simulate("new", url + _NEW)
    before = figures(old)
    write(config, f'callback_keys = ["{_NEW}"]')
    reload(service, 2)
    assert post(service, _OLD) == 401
    after = figures(new)
    for one in (before, after):
        # A worker that is replaced closes its connections: a request that meets that is sent again, and not refused.
        assert not [answer for answer in one["answers"] if answer.startswith("HTTP")]
        assert (one["given_up"], one["acknowledged"]) == (0, one["callbacks"])
    assert post(service, _NEW) == 200
    assert service.stop() == 0


def test_a_reload_that_is_asked_for_during_the_start_ends_nothing(
    serve: Callable[..., Receiver], config: Path, tmp_path: Path
) -> None:
    service = serve(wait=False, RECEIVER_CONFIG=str(config), RECEIVER_DATA_DIR=str(tmp_path / "early"))
    eventually((tmp_path / "early").exists, "it has begun", START_TIMEOUT)
    service.signal(signal.SIGHUP)
    eventually(lambda: said(service, "settings.reloaded"), "it reloads", START_TIMEOUT)
    assert post(service, _OLD) == 200
    assert service.stop() == 0


async def test_a_callback_in_work_ends_as_it_began(serve: Callable[..., Receiver], config: Path) -> None:
    """Its key has gone meanwhile, from the cache of authenticated URLs as well."""
    service = serve(RECEIVER_CONFIG=str(config))
    assert await asyncio.to_thread(post, service, _OLD) == 200
    whole = request(body([report("m-2")]), f"/sms/callback/shop?key={_OLD}")
    async with wire(service.port) as connection:
        await connection.send(whole[:-20])
        write(config, f'callback_keys = ["{_NEW}"]')
        await asyncio.to_thread(reload, service)
        await connection.send(whole[-20:])
        assert (await connection.answer()).status == 200
        await connection.send(whole)
        assert (await connection.answer()).status == 401


def test_everything_of_a_project_follows(serve: Callable[..., Receiver], redis_url: str, tmp_path: Path) -> None:
    """Keys and tokens in files, projects that come and go, routes, groups, and the report index beside the service."""
    key, config = tmp_path / "key", tmp_path / "receiver.toml"
    key.write_text(_OLD)
    write(config, f'callback_keys = ["file:{key}"]')
    service = serve(RECEIVER_CONFIG=str(config), RECEIVER_INDEX="auto")
    assert post(service, _OLD) == 200
    key.write_text(_NEW)
    topic = "urn:smn:local:stall:delivered"
    more = f'[projects.stall]\ntokens = ["{_TOKEN}"]\ncallback_keys = ["{_NEW}"]\nconsumer_groups = ["billing"]'
    write(config, f'callback_keys = ["file:{key}"]', more, f'routes = {{sms_success_event = "{topic}"}}')
    reload(service)
    assert [post(service, one) for one in (_OLD, _NEW)] == [401, 200]
    assert post(service, _NEW, project="stall") == 200
    with Redis.from_url(redis_url) as redis:
        assert redis.xlen(topic) == 1
        groups = eventually(lambda: {g["name"]: g for g in redis.xinfo_groups(topic)}.get(b"billing"), "its group")
        assert groups["lag"] == 1
    eventually(
        lambda: service.figure('receiver_index_entries{outcome="applied"}') == 2, "the index reads both", START_TIMEOUT
    )
    write(config, 'callback_keys = ["env:NOT_SET"]')
    reload(service, event="settings.refused")
    eventually(lambda: service.figure("receiver_reload_refused") == 1, "it is refused")
    write(config, f'callback_keys = ["file:{key}"]')
    reload(service, 2)
    eventually(lambda: service.figure("receiver_reload_refused") == 0, "the mistake is mended")
    assert post(service, _NEW, project="stall") == 404
    assert service.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_broken_file_changes_nothing(serve: Callable[..., Receiver], config: Path, workers: str) -> None:
    """Neither for the service nor for an index or a worker that is started again meanwhile; one line says the place."""
    service = serve(RECEIVER_CONFIG=str(config), RECEIVER_WORKERS=workers, RECEIVER_INDEX="1")
    eventually(lambda: said(service, "indexer.started"), "the index runs")
    write(config, 'callback_keys = ["env:NOT_SET"]')
    reload(service, event="settings.refused")
    eventually(lambda: service.figure('receiver_reloads_total{outcome="refused"}') == 1, "it is counted, once")
    assert service.figure("receiver_reload_refused") == 1
    [line] = said(service, "settings.refused")
    assert (line["level"], line["problem"].startswith(f"{config}: projects.shop.callback_keys[0]: ")) == ("error", True)
    os.kill(indexes(service)[0], signal.SIGKILL)
    eventually(lambda: len(said(service, "indexer.started")) == 2, "the index runs again", START_TIMEOUT)
    assert post(service, _OLD) == 200
    eventually(lambda: service.figure('receiver_index_entries{outcome="applied"}') == 1, "and reads", START_TIMEOUT)
    assert said(service, "settings.reloaded") == []
    assert len(said(service, "settings.refused")) == 1
    assert service.stop() == 0


def test_the_env_file_is_read_again_for_secrets_and_what_needs_a_restart_is_named(
    redis_url: str, config: Path, tmp_path: Path
) -> None:
    path = tmp_path / "environment"
    own = f"REDIS_URL={redis_url}\nRECEIVER_CONFIG={config}\nRECEIVER_INDEX=0\nRECEIVER_STOP_DELAY=0\n"
    path.write_text(f"{own}SHOP_KEY={_OLD}\nPORT={(port := unused_port())}\n")
    write(config, 'callback_keys = ["env:SHOP_KEY"]')
    command = [sys.executable, "-m", "receiver", "serve", "--env-file", str(path), "--data-dir", str(tmp_path / "data")]
    service = Receiver.__new__(Receiver)
    service.port, service.url = port, f"http://127.0.0.1:{port}"
    Child.__init__(service, command, tmp_path / "serve.log", {"PATH": os.environ["PATH"]})
    try:
        eventually(service.ready, "it is ready", START_TIMEOUT)
        assert post(service, _OLD) == 200
        path.write_text(f"{own}SHOP_KEY={_NEW}\nPORT={free_port()}\nRECEIVER_RETENTION=1h\n")
        reload(service)
        assert [post(service, one) for one in (_OLD, _NEW)] == [401, 200]
        assert [line["settings"] for line in said(service, "settings.need_restart")] == [["PORT", "RECEIVER_RETENTION"]]
    finally:
        assert service.stop() == 0


def test_an_index_of_its_own_follows_its_file(redis_url: str, config: Path, tmp_path: Path) -> None:
    """And goes on with the old one while the new one is broken."""
    environ = {"REDIS_URL": redis_url, "RECEIVER_CONFIG": str(config), "PATH": os.environ["PATH"]}
    index = Child([sys.executable, "-m", "receiver", "index"], tmp_path / "index.log", environ)
    try:
        eventually(lambda: "indexer.started" in index.output, "it runs", START_TIMEOUT)
        config.write_text("[projects.stall")
        index.signal(signal.SIGHUP)
        eventually(lambda: index.output.count("settings.refused") == 1, "the mistake is told")
        config.write_text('[projects.stall]\ncallback_keys = ["env:NOT_SET"]')
        index.signal(signal.SIGHUP)
        with Redis.from_url(redis_url) as redis:
            redis.xadd("urn:smn:local:stall:sms_success", {"data": "no event"})
            eventually(
                lambda: redis.hget("lookups:counts", "undecodable") == b"1", "it reads the new project", START_TIMEOUT
            )
    finally:
        assert index.stop() == 0
    assert index.output.count("settings.refused") == 1


def test_a_closed_terminal_ends_the_service_and_a_signal_in_an_open_one_does_not(
    redis_url: str, config: Path, tmp_path: Path
) -> None:
    """Whoever closes the window of a service that runs in front of him does not want it to run on."""
    environ = {
        "REDIS_URL": redis_url,
        "RECEIVER_CONFIG": str(config),
        "PATH": os.environ["PATH"],
        "RECEIVER_INDEX": "0",
    }
    environ |= {"RECEIVER_DATA_DIR": str(tmp_path / "data"), "PORT": str(unused_port())}
    log = tmp_path / "serve.log"
    ours, its = pty.openpty()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiver", "serve"],
            env=environ,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(its, termios.TIOCSCTTY, 0),  # noqa: PLW1509 we have no threads
        )
    os.close(its)

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        return "service.listening" in log.read_text()

    try:
        eventually(listens, "it runs", START_TIMEOUT)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "settings.reloaded" in log.read_text(), "it reloads", START_TIMEOUT)
        os.close(ours)
        assert process.wait(START_TIMEOUT) == 0
    finally:
        process.kill()
    assert '"signal": "SIGHUP"' in log.read_text()
