"""``receiver check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers import RedisServer, free_port

from receiver.embedded import valkey_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.conftest import Run
    from redis import Redis


@pytest.fixture
def restored(cli_redis: Redis) -> Iterator[Redis]:
    """Let a test change the configuration of Redis, and change it back."""
    yield cli_redis
    for name, value in (("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")):
        cli_redis.config_set(name, value)
    cli_redis.acl_deluser("limited")


def _found(run: Run, *arguments: str, **environ: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    result = run("check", "--json", *arguments, **environ)
    by_severity: dict[str, list[dict[str, Any]]] = {"ok": [], "note": [], "warning": [], "error": []}
    for finding in json.loads(result.stdout):
        by_severity[finding["severity"]].append(finding)
    return result.returncode, by_severity


def test_a_good_setup_has_neither_errors_nor_warnings_and_leaves_nothing_behind(cli_redis: Redis, run: Run) -> None:
    code, found = _found(run, "--strict")
    assert (code, found["warning"], found["error"]) == (0, [], [])
    assert {"script", "durability", "memory", "spool"} <= {finding["area"] for finding in found["ok"]}
    assert cli_redis.keys() == []


def test_what_endangers_events_in_redis_is_found_with_its_mend(restored: Redis, run_here: Run) -> None:
    restored.config_set("appendfsync", "everysec")
    code, found = _found(run_here)
    assert code == 0
    assert "CONFIG SET appendfsync always" in found["warning"][0]["mend"]
    assert _found(run_here, "--strict")[0] == 1
    restored.config_set("appendonly", "no")
    restored.config_set("maxmemory-policy", "allkeys-lru")
    code, found = _found(run_here)
    assert code == 1
    assert "loses every event" in found["warning"][0]["what"]
    assert "noeviction" in found["error"][0]["mend"]


def test_a_redis_that_hides_its_configuration_gives_notes(
    restored: Redis, run_here: Run, environ: dict[str, str]
) -> None:
    restored.execute_command("ACL", "SETUSER", "limited", "on", ">pass", "~*", "&*", "+@all", "-config", "-info")
    code, found = _found(run_here, REDIS_URL=environ["REDIS_URL"].replace("//", "//limited:pass@"))
    assert code == 0
    assert sum("cannot be told" in note["what"] for note in found["note"]) == 2


def test_a_user_that_may_not_publish_is_an_error(restored: Redis, run_here: Run, environ: dict[str, str]) -> None:
    restored.execute_command("ACL", "SETUSER", "limited", "on", ">pass", "~*", "&*", "+@all", "-evalsha")
    code, found = _found(run_here, REDIS_URL=environ["REDIS_URL"].replace("//", "//limited:pass@"))
    assert code == 1
    assert found["error"][0]["area"] == "script"


@pytest.mark.parametrize(
    ("options", "words"),
    [({"cluster_enabled": "yes"}, "cluster mode"), ({"replicaof": "127.0.0.1 1"}, "replica of 127.0.0.1:1")],
)
def test_a_redis_that_the_service_cannot_use_is_an_error(
    options: dict[str, str], words: str, run_here: Run, tmp_path: Path
) -> None:
    # Its port plus 10,000, where a cluster listens unless it is told another, may be none.
    server = RedisServer(valkey_binary(), tmp_path, **options, cluster_port=str(free_port()))
    try:
        code, found = _found(run_here, REDIS_URL=server.url)
    finally:
        server.kill()
    assert code == 1
    assert any(words in error["what"] for error in found["error"])


def test_every_mistake_of_the_configuration_is_found_at_once(run_here: Run, tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text('[projects.a]\ncallback_keys = ["short"]\n[projects.b]\nno_such = 1\n')
    data = tmp_path / "file"
    data.touch()
    settings = {"PORT": "0", "RECEIVER_CONFIG": str(config), "RECEIVER_LOG_LEVL": "info", "RECEIVER_DATA_DIR": "/proc"}
    code, found = _found(run_here, **settings)
    assert code == 1
    errors = " ".join(error["what"] for error in found["error"])
    assert all(words in errors for words in ("PORT", "projects.b.no_such", "/proc cannot be written to"))
    assert "RECEIVER_LOG_LEVEL" in found["warning"][0]["what"]
    assert "script" in {finding["area"] for finding in found["ok"]}


def test_short_secrets_and_passwords_in_the_clear_are_warned_of_and_not_shown(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text('[projects.a]\ncallback_keys = ["s3cret"]\n')
    result = run("check", RECEIVER_CONFIG=str(config), REDIS_URL="redis://:hunter2@no-such-host.invalid:6379/0")
    text = " ".join(result.stdout.split())
    assert "fewer than 16 characters" in text
    assert "unencrypted" in text
    assert "s3cret" not in text
    assert "hunter2" not in text
    assert result.returncode == 1


def test_an_embedded_valkey_that_does_not_run_yet_is_no_error(run_here: Run) -> None:
    code, found = _found(run_here, REDIS_URL="", RECEIVER_EMBEDDED_PORT=str(free_port()))
    assert code == 0
    assert any("will start its own Valkey" in note["what"] for note in found["note"])


def test_a_data_folder_that_others_may_read_is_warned_of(run_here: Run, environ: dict[str, str]) -> None:
    spool = Path(environ["RECEIVER_DATA_DIR"]) / "spool"
    spool.mkdir(parents=True)
    spool.chmod(0o755)
    code, found = _found(run_here)
    assert code == 0
    assert any("Other users of this machine" in warning["what"] for warning in found["warning"])
    spool.chmod(0o700)
    assert _found(run_here)[1]["warning"] == []
