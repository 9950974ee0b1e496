"""``receiver check`` says what a fail-over loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli.conftest import json_lines
from redis import Redis
from servers import RedisServer, eventually

from receiver.cli.checking.failover import failover
from receiver.cli.checking.findings import Severity
from receiver.embedded import valkey_binary

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Run


@pytest.mark.parametrize(
    ("following", "replicas", "synced", "severity", "words"),
    [
        (0, 0, True, Severity.NOTE, "No replica follows it"),
        (1, 0, True, Severity.WARNING, "loses acknowledged events that its new primary has not received"),
        (2, 1, True, Severity.WARNING, "one of those that are not waited for"),
        (0, 1, True, Severity.ERROR, "0 replicas follow it: every event goes to the spool"),
        (1, 2, True, Severity.ERROR, "1 replica follows it: every event goes to the spool"),
        (1, 1, True, Severity.OK, "neither a fail-over nor a power cut loses any"),
        (2, 2, False, Severity.OK, "only the loss of all machines at once loses any"),
        (None, 0, False, Severity.NOTE, "cannot be told"),
    ],
)
def test_what_can_be_lost_is_said_in_a_sentence(
    following: int | None, replicas: int, *, synced: bool, severity: Severity, words: str
) -> None:
    finding = failover({} if following is None else {"connected_slaves": following}, replicas, synced=synced)
    assert finding.severity is severity
    assert words in finding.what


def test_replicas_are_counted_and_a_batch_is_confirmed_by_them(cli_redis: Redis, run_here: Run, tmp_path: Path) -> None:
    """One that keeps nothing on disk cannot confirm what the primary fsyncs."""
    port = cli_redis.connection_pool.connection_kwargs["port"]
    replica = RedisServer(valkey_binary(), tmp_path, replicaof=f"127.0.0.1 {port}", repl_diskless_sync_delay="0")

    def has_joined() -> bool:
        """Its disk counts once it has rewritten its file after the first synchronisation."""
        cli_redis.set("joined", 1, px=1)
        return bool(cli_redis.execute_command("WAITAOF", 0, 1, 100)[1])

    def check() -> dict[str, dict[str, str]]:
        settings = {"RECEIVER_REPLICAS": "1", "RECEIVER_PUBLISH_TIMEOUT": "1.2s"}
        return {one["area"]: one for one in json_lines(run_here("check", "--json", **settings))}

    try:
        eventually(has_joined, "the replica has joined", 20)
        found = check()
        assert found["fail-over"]["severity"] == found["script"]["severity"] == "ok"
        with Redis.from_url(replica.url) as client:
            client.config_set("appendonly", "no")
        found = check()
        assert "have the batch on disk" in found["script"]["what"]
        assert "appendonly" in found["script"]["fix"]
    finally:
        replica.kill()
