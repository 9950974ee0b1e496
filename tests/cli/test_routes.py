"""``receiver routes`` says which topic an event type goes to, and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

from click.testing import CliRunner

from receiver.cli.routes import routes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servers import Receiver

URN = "urn:smn:local:p1:"


def test_each_route_is_shown_with_where_it_comes_from(
    serve: Callable[..., Receiver], redis_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text(
        f'[projects.p1]\ntokens = ["token-of-p1"]\n[projects.p1.routes]\nsms_fail_event = "{URN}failures"\n',
        encoding="utf-8",
    )
    service = serve(RECEIVER_CONFIG=str(config))
    change = {"callback": [{"event_type": "sms_reply_event", "topic_urn": f"{URN}answers"}]}
    request = Request(  # noqa: S310 our own URL
        f"{service.url}/v2/p1/notifications/sms/callback",
        json.dumps(change).encode(),
        {"X-Auth-Token": "token-of-p1", "Content-Type": "application/json"},
        method="PUT",
    )
    with urlopen(request) as answer:  # noqa: S310 our own URL
        assert answer.status == 200
    shown = CliRunner(env={"REDIS_URL": redis_url, "RECEIVER_CONFIG": str(config)}).invoke(routes, ["--json"])
    assert shown.exit_code == 0, shown.output
    rows = {row["event_type"]: (row["topic_urn"], row["origin"]) for row in map(json.loads, shown.output.splitlines())}
    assert rows == {
        "sms_success_event": (f"{URN}sms_success", "default"),
        "sms_fail_event": (f"{URN}failures", "configuration"),
        "sms_reply_event": (f"{URN}answers", "run time"),
    }


def test_the_route_of_states_that_are_not_final_is_shown_where_they_are_published(
    redis_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "receiver.toml"
    table = f'[projects.p1.routes]\nsms_sent_event = "{URN}under-way"\n'
    config.write_text(f"[projects.p1]\n{table}[projects.p1.providers.sinch]\npending = true\n", encoding="utf-8")
    shown = CliRunner(env={"REDIS_URL": redis_url, "RECEIVER_CONFIG": str(config)}).invoke(routes, ["--json"])
    assert json.loads(shown.output.splitlines()[3]) == {
        "project_id": "p1",
        "event_type": "sms_sent_event",
        "topic_urn": f"{URN}under-way",
        "origin": "configuration",
        "stream_keys": [f"{URN}under-way"],
    }
    config.write_text(f"[projects.p1]\n{table}", encoding="utf-8")
    refused = CliRunner(env={"REDIS_URL": redis_url, "RECEIVER_CONFIG": str(config)}).invoke(routes, [])
    assert "set pending = true at a provider" in str(refused.exception)
