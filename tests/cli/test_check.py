"""``receiver check``."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli.conftest import json_lines
from messages import SUCCESS
from servers import RedisServer, free_port

from receiver.cli.checking.redis import _password
from receiver.delivery.dedupe_window import KEY
from receiver.embedded import valkey_binary
from receiver.events import Entry
from receiver.settings import read_settings
from receiver.spool.file import free_file

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
    for finding in json_lines(result):
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
    assert "CONFIG SET appendfsync always" in found["warning"][0]["fix"]
    assert _found(run_here, "--strict")[0] == 1
    restored.config_set("appendonly", "no")
    restored.config_set("maxmemory-policy", "allkeys-lru")
    code, found = _found(run_here)
    assert code == 1
    assert "loses every event" in found["warning"][0]["what"]
    assert "noeviction" in found["error"][0]["fix"]


def test_a_redis_that_hides_its_configuration_gives_notes(
    restored: Redis, run_here: Run, environ: dict[str, str]
) -> None:
    restored.execute_command("ACL", "SETUSER", "limited", "on", ">pass", "~*", "&*", "+@all", "-config", "-info")
    code, found = _found(run_here, REDIS_URL=environ["REDIS_URL"].replace("//", "//limited:pass@"))
    assert code == 0
    assert sum("cannot be told" in note["what"] for note in found["note"]) == 3


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
    config.write_text('[projects.a]\ncallback_keys = ["first-key"]\n[projects.b]\nno_such = 1\n')
    data = tmp_path / "file"
    data.touch()
    settings = {"PORT": "0", "RECEIVER_CONFIG": str(config), "RECEIVER_LOG_LEVL": "info", "RECEIVER_DATA_DIR": "/proc"}
    code, found = _found(run_here, **settings)
    assert code == 1
    errors = " ".join(error["what"] for error in found["error"])
    assert all(words in errors for words in ("PORT", "projects.b.no_such", "/proc cannot be written to"))
    assert "RECEIVER_LOG_LEVEL" in found["warning"][0]["what"]
    assert "script" in {finding["area"] for finding in found["ok"]}


def test_an_invalid_redis_url_is_not_called_absent_besides(run_here: Run) -> None:
    code, found = _found(run_here, REDIS_URL="redis://:pass/word@localhost:6379/0", RECEIVER_RETENTION="24")
    assert code == 1
    assert [error["what"].partition(":")[0] for error in found["error"]] == ["REDIS_URL"]


def test_several_projects_without_a_default_are_noted(run_here: Run, tmp_path: Path) -> None:
    """An only project is the default one by itself, and is no longer once there is another."""
    config = tmp_path / "receiver.toml"
    config.write_text("".join(f'[projects.{name}]\ncallback_keys = ["a key of {name}, long"]\n' for name in "ab"))
    assert "No project is the default" in str(_found(run_here, RECEIVER_CONFIG=str(config))[1]["note"])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may give a folder away")
def test_root_is_told_that_another_user_may_read_less(run_here: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.chown(data, "nobody")
    assert "runuser -u nobody" in str(_found(run_here, RECEIVER_DATA_DIR=str(data))[1]["note"])


def test_a_retention_that_lacks_its_unit_is_warned_of(run_here: Run) -> None:
    assert "RECEIVER_RETENTION is 24 seconds" in str(_found(run_here, RECEIVER_RETENTION="24")[1]["warning"])


def test_short_secrets_and_passwords_in_the_clear_are_warned_of_and_not_shown(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text('[projects.a]\ncallback_keys = ["s3cret-of-a"]\n')
    result = run("check", RECEIVER_CONFIG=str(config), REDIS_URL="redis://:hunter2@no-such-host.invalid:6379/0")
    text = " ".join(result.stdout.split())
    assert "fewer than 16 characters" in text
    assert "unencrypted" in text
    assert "s3cret" not in text
    assert "hunter2" not in text
    assert result.returncode == 1


@pytest.mark.parametrize(("host", "severity"), [("10.255.255.1", "note"), ("8.8.8.8", "warning"), ("[::1]", None)])
async def test_a_password_in_the_clear_is_a_warning_outside_of_private_networks(
    host: str, severity: str | None
) -> None:
    found = await _password(read_settings({"REDIS_URL": f"redis://:hunter2@{host}:6379/0"}))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_a_redis_without_a_limit_and_topics_that_take_nothing_are_found(
    cli_redis: Redis, run_here: Run, environ: dict[str, str]
) -> None:
    """One topic whose key is no stream, and an event on disk that it has refused."""
    limit = cli_redis.config_get("maxmemory")["maxmemory"]
    cli_redis.set(SUCCESS, "in the way")
    folder = Path(environ["RECEIVER_DATA_DIR"]) / "spool"
    folder.mkdir(parents=True, mode=0o700)
    with closing(free_file(folder, 1 << 20)) as spool:
        spool.add([Entry(SUCCESS, b"1" * 16, b"{}")])
        spool.park(spool.oldest(1))
    try:
        cli_redis.config_set("maxmemory", 0)
        code, found = _found(run_here)
    finally:
        cli_redis.config_set("maxmemory", limit)
        cli_redis.delete(SUCCESS)
    assert code == 1
    assert f"redis-cli RENAME {SUCCESS} {{{SUCCESS}}}:aside" in found["error"][0]["fix"]
    told = {finding["area"]: finding for finding in found["warning"]}
    assert "maxmemory is not set" in told["memory"]["what"]
    assert re.search(r"CONFIG SET maxmemory \d+mb", told["memory"]["fix"])
    assert "1 events stay on disk because their topics refuse them" in told["spool"]["what"]


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


def _urls(found: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Return what is said of each URL, by the URL."""
    notes = [finding for finding in found["note"] if finding["area"] == "callback url"]
    return {finding["what"].partition(": ")[2]: finding["fix"] for finding in notes}


def test_the_url_to_enter_at_each_provider_is_shown_without_its_key(run_here: Run, tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text("""
        [projects.a]
        callback_keys = ["a key of many characters"]
        public_url = "https://sms.example.com/in/"
        [projects.a.providers]
        twilio = {auth_tokens = ["token-of-twilio"]}
        yunpian = {api_keys = ["key-of-yunpian"]}
        aliyun = {}
        kannel = {}
        [projects.b]
        callback_keys = ["another key of many characters"]
    """)
    code, found = _found(run_here, "--strict", RECEIVER_CONFIG=str(config), PORT="8080")
    urls = _urls(found)
    begin = "https://sms.example.com/in/callbacks"
    kannel = "id=ID&status=%d&from=%p&to=%P&ts=%T&smsc=%i&answer=%A"
    assert set(urls) == {
        f"{begin}/twilio/a",
        f"{begin}/yunpian/a?key=***",
        f"{begin}/aliyun/a?key=***",
        f"{begin}/kannel/a?key=***&{kannel}",
        "http://127.0.0.1:8080/callbacks/tencent/b?key=***",
    }
    assert "needs no key" in urls[f"{begin}/twilio/a"]
    assert "percent-encoded" in urls[f"{begin}/aliyun/a?key=***"]
    assert "get-url" in urls[f"{begin}/kannel/a?key=***&{kannel}"]
    assert "That is this machine" in urls["http://127.0.0.1:8080/callbacks/tencent/b?key=***"]
    assert (code, found["warning"]) == (0, [])
    assert "a key of many" not in str(found)
    assert "of-twilio" not in str(found)
    shown = run_here("check", RECEIVER_CONFIG=str(config)).stdout
    assert f"Kannel, project a: {begin}/kannel/a?key=***&{kannel}\n" in shown


def test_callbacks_that_anybody_may_post_or_that_are_refused_are_warned_of(run_here: Run, tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text("""
        [projects.open]
        public_url = "http://sms.example.com"
        [projects.open.providers]
        plivo = {}
        kannel = {}
        [projects.mixed]
        [projects.mixed.providers]
        sinch = {webhook_secrets = ["secret-of-sinch"]}
        aliyun = {}
        yunpian = {api_keys = ["key-of-yunpian"]}
        amazon-sns = {}
        messagebird = {}
    """)
    found = _found(run_here, RECEIVER_CONFIG=str(config))[1]
    said = {(one["area"], one["what"].partition(":")[0]): one["fix"] for one in found["warning"]}
    assert {key[1] for key in said if key[0] == "project open"} == {
        "public_url is http",
        "Anybody may post callbacks as Plivo",
        "Anybody may post callbacks as Kannel",
    }
    assert {key[1] for key in said if key[0] == "project mixed"} == {
        "Every callback of Alibaba Cloud SMS is refused",
        "Every callback of Yunpian is refused",
        "Every callback of Amazon SNS is refused",
        "Every callback of MessageBird SMS is refused",
        "The signatures of MessageBird SMS are not checked, and cannot be",
    }
    assert "providers.plivo]" in said["project open", "Anybody may post callbacks as Plivo"]
    assert "providers" not in said["project open", "Anybody may post callbacks as Kannel"]


def test_a_project_that_takes_signed_callbacks_only_is_not_called_open(run_here: Run, tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text('[projects.a.providers]\nsinch = {webhook_secrets = ["secret-of-sinch"]}\n')
    code, found = _found(run_here, "--strict", RECEIVER_CONFIG=str(config))
    assert (code, found["warning"]) == (0, [])
    assert "Anybody" not in str(found)


def test_a_provider_that_signs_its_url_needs_a_public_url(run_here: Run, tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text('[projects.a.providers]\ntwilio = {auth_tokens = ["token-of-twilio"]}\n')
    code, found = _found(run_here, RECEIVER_CONFIG=str(config))
    assert code == 1
    assert "public_url is missing" in found["error"][0]["what"]
    assert _urls(found) == {}


def test_a_user_for_topics_only_is_enough_and_what_he_may_not_delete_expires(
    restored: Redis, run_here: Run, environ: dict[str, str]
) -> None:
    """The service works with these rights."""
    rights = ("on", ">pass", "~urn:smn:*", "~{urn:smn:*", "&*", "+@all", "-del", "-unlink")
    restored.execute_command("ACL", "SETUSER", "limited", *rights)
    code, found = _found(run_here, REDIS_URL=environ["REDIS_URL"].replace("//", "//limited:pass@"))
    assert (code, found["error"]) == (0, [])
    left = [str(key) for key in restored.keys("*urn:smn:local:receiver-check:*")]
    assert len(left) == 2, "the stream and the ids seen"
    assert all(0 < restored.ttl(key) <= 120 for key in left)


def test_another_dedupe_window_than_that_of_the_service_is_warned_of(cli_redis: Redis, run_here: Run) -> None:
    cli_redis.set(KEY, 43200)
    [found] = _found(run_here)[1]["warning"]
    assert "RECEIVER_DEDUPE_WINDOW=43200s, these settings say 86400s" in found["what"]
    assert _found(run_here, RECEIVER_DEDUPE_WINDOW="12h")[1]["warning"] == []


def test_with_another_mistake_a_fail_over_is_judged_by_the_replicas_that_are_set(run_here: Run) -> None:
    code, found = _found(run_here, PORT="none", RECEIVER_REPLICAS="1")
    assert code == 1
    assert any("1 replica" in finding["what"] or "0 replicas" in finding["what"] for finding in found["error"])
