"""What commands and ``receiver check`` say of a Redis that refuses: each state with its own fix, on real servers."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from cli.conftest import json_lines
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    MovedError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry
from servers import Child, RedisServer, eventually, free_port

from receiver.cli.connections import failure
from receiver.cli.redis_refusals import REFUSALS, RIGHTS, refusal_of
from receiver.embedded import valkey_binary
from receiver.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.conftest import Run

_BINARIES = [str(valkey_binary()), pytest.param(shutil.which("redis-server"), id="redis-server")]


@pytest.fixture(params=_BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """Start a server for one test alone: a Valkey, and Debian's Redis 7 where it is installed."""
    if request.param is None:
        pytest.skip("redis-server is not installed (Debian's package redis-server): not tested on Redis 7")
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(request.param, folder)
    yield server
    server.kill()


def _errors(run: Run, url: str) -> dict[str, dict[str, Any]]:
    """Return the errors that a check finds, by area."""
    result = run("check", "--json", REDIS_URL=url)
    assert result.returncode == 1
    return {finding["area"]: finding for finding in json_lines(result) if finding["severity"] == "error"}


def _fill(client: Redis) -> None:
    """Write until Redis takes no more."""
    client.config_set("maxmemory", "4mb")
    with contextlib.suppress(OutOfMemoryError):
        for number in range(10_000):
            client.set(f"filler:{number}", "x" * 10_000)


def _fail_a_snapshot(client: Redis, server: RedisServer) -> None:
    """Make Redis fail to write its snapshot, as a full disk does."""
    (server.folder / "dump.rdb").mkdir()
    client.config_set("save", "3600 1")
    client.bgsave()
    eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the snapshot fails")


def test_a_full_redis_is_told_with_its_memory_and_the_fix(server: RedisServer, run_here: Run) -> None:
    with Redis.from_url(server.url) as client:
        _fill(client)
    errors = _errors(run_here, server.url)
    assert errors["script"]["fix"] == errors["memory"]["fix"] == REFUSALS["OOM"].fix
    assert "has reached maxmemory" in errors["script"]["what"]
    assert " of 4 MiB (" in errors["memory"]["what"]
    assert "% of maxmemory)" in errors["memory"]["what"]


def test_a_redis_whose_snapshot_failed_is_told_and_still_read(server: RedisServer, run_here: Run) -> None:
    """It refuses PING as well, with which connections are tested."""
    with Redis.from_url(server.url) as client:
        _fail_a_snapshot(client, server)
    errors = _errors(run_here, server.url)
    assert errors["script"]["fix"] == REFUSALS["MISCONF"].fix
    assert run_here("routes", REDIS_URL=server.url).returncode == 0


def test_a_user_without_rights_is_told_which_ones_suffice(server: RedisServer, run_here: Run) -> None:
    url = server.url.replace("//", "//limited:pass@")
    with Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">pass", "~*", "&*", "+@all", "-xadd")
        found = _errors(run_here, url)["script"]
        assert (found["fix"], "does not allow its user" in found["what"]) == (REFUSALS["NOPERM"].fix, True)
        command, *words = RIGHTS.replace("'", "").replace("NAME", "limited").split(" ")
        client.execute_command(command, *words[:2], "reset", "on", ">pass", *words[2:])
    result = run_here("check", "--json", REDIS_URL=url)
    assert result.returncode == 0, result.stdout
    client.close()


@pytest.mark.parametrize(("user", "code"), [("", "NOAUTH"), (":wrong@", "WRONGPASS"), ("nobody:secret@", "WRONGPASS")])
def test_credentials_that_redis_refuses_are_told_apart(
    server: RedisServer, run_here: Run, user: str, code: str
) -> None:
    with Redis.from_url(server.url) as client:
        client.config_set("requirepass", "the-password")
    url = server.url.replace("//", f"//{user}")
    assert _errors(run_here, url)["redis"]["fix"] == REFUSALS[code].fix
    result = run_here("tail", "--count", "1", REDIS_URL=url)
    assert result.returncode == 2
    assert REFUSALS[code].fix in result.stderr
    assert "wrong" not in result.stderr.replace(REFUSALS[code].what, "")


def test_a_redis_in_protected_mode_is_told_by_what_it_writes() -> None:
    """It says so to other machines alone, so not to a test, whose servers listen on the loopback address."""
    error = ResponseError("DENIED Running in protected mode because protected mode is enabled and no password is set")
    assert refusal_of(error) is REFUSALS["DENIED"]


def test_a_replica_is_told_with_its_primary(server: RedisServer, run_here: Run) -> None:
    with Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", "1")
    errors = _errors(run_here, server.url)
    assert "It is a replica of 127.0.0.1:1" in errors["redis"]["what"]
    assert errors["script"]["fix"] == REFUSALS["READONLY"].fix
    drained = run_here("quarantine", "drop", "--all", "--yes", REDIS_URL=server.url)
    assert drained.returncode == 0  # of an empty quarantine there is nothing to write


def test_a_redis_that_loads_its_data_is_waited_for(tmp_path: Path, run_here: Run) -> None:
    server = RedisServer(valkey_binary(), tmp_path)
    with Redis.from_url(server.url) as client, client.pipeline(transaction=False) as pipe:
        for number in range(50_000):
            pipe.set(number, "")
        pipe.execute()
    server.kill()
    slow = ("--key-load-delay", "150")  # microseconds a key; clients are answered after each 1,024 keys
    data = ("--dir", str(tmp_path), "--appendonly", "yes", "--port", str(port := free_port()))
    loading = Child([str(valkey_binary()), *data, *slow], tmp_path / "loading.log")
    url = f"redis://127.0.0.1:{port}/0"
    try:
        eventually(lambda: _loads(url), "it loads its data")
        assert _errors(run_here, url)["redis"]["fix"] == REFUSALS["LOADING"].fix
    finally:
        loading.kill()


def _loads(url: str) -> bool:
    try:
        with Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
            client.ping()
    except BusyLoadingError:
        return True
    except RedisError:
        return False
    return False


@pytest.mark.parametrize(
    ("error", "code"), [(MovedError("1 127.0.0.1:7001"), "MOVED"), (TryAgainError("Multiple keys"), "TRYAGAIN")]
)
def test_a_slot_that_moves_passes_where_the_url_names_the_cluster(error: RedisError, code: str) -> None:
    """Nobody is told to write the URL that is there. With that of one node a retry does not help."""
    in_cluster = failure(read_settings({"REDIS_URL": "redis+cluster://host:7000"}), error)
    assert in_cluster.passes, code
    assert "in which a slot moves" in in_cluster.what
    assert in_cluster.fix == "Run this again."
    assert not failure(read_settings({"REDIS_URL": "redis://host:7000"}), error).passes
