"""Each query of the Grafana dashboard finds something: a real Prometheus scrapes a real service with traffic."""

from __future__ import annotations

import json
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from redis import Redis
from servers import Child, eventually, free_port

DASHBOARD = json.loads((Path(__file__).parents[1] / "deploy" / "grafana.json").read_text(encoding="utf-8"))
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PROJECT = "[projects.default]\nconsumer_groups = ['billing']\n"
TOPIC = "urn:smn:local:default:sms_success"


class Prometheus(Child):
    """Scrapes a service four times a second."""

    def __init__(self, binary: str, folder: Path, target: str) -> None:
        scrape = {"job_name": "receiver", "static_configs": [{"targets": [target]}]}
        config = {"global": {"scrape_interval": "250ms"}, "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        self.url = f"http://127.0.0.1:{free_port()}"
        options = {
            "config.file": folder / "prometheus.yml",
            "storage.tsdb.path": folder / "tsdb",
            "web.listen-address": self.url.removeprefix("http://"),
            "log.level": "warn",
        }
        super().__init__([binary, *(f"--{name}={value}" for name, value in options.items())], folder / "prometheus.log")

    def ask(self, query: str) -> list[object]:
        """Return the series that a query finds; none while nobody answers."""
        assert self.alive, self.output
        try:
            with urlopen(f"{self.url}/api/v1/query?{urlencode({'query': query})}", timeout=10) as answer:  # noqa: S310 our own URL
                found: list[object] = json.load(answer)["data"]["result"]
                return found
        except URLError:
            return []


@contextmanager
def prometheus(folder, target):
    """Run one."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed (Debian's package prometheus): the dashboard is not tried")
    server = Prometheus(binary, folder, target)
    try:
        yield server
    finally:
        server.kill()


def report(number, code="DELIVRD", status="SUCCESS", **more):
    """Return one of Tencent's."""
    same = {"nationcode": "86", "mobile": "13800138000", "description": "", "user_receive_time": "2026-11-26 15:00:00"}
    return {**same, "report_status": status, "errmsg": code, "sid": f"5000:{number}", **more}


def post_some_of_each(service):
    """Post what each panel is about: delivered, failed, sent again, with a new field, from the future, and rejected."""
    number = time.monotonic_ns()
    future = {"user_receive_time": "2099-11-26 15:00:00"}
    reports = [
        report(number),
        report(number, new=1),
        report(number + 1, "MK:0001", "FAIL"),
        report(number + 2, **future),
    ]
    for body in (reports, reports[:1], [*reports[:1], {"sid": f"{number}"}]):
        assert service.post(json.dumps(body).encode())[0] == 200


@pytest.mark.slow
def test_every_query_of_the_dashboard_finds_something(serve, redis_url, tmp_path):
    """With metrics and labels that are there, in the form that Prometheus understands."""
    (tmp_path / "receiver.toml").write_text(PROJECT, encoding="utf-8")
    service = serve(RECEIVER_CONFIG=str(tmp_path / "receiver.toml"), RECEIVER_INDEX="1")
    with prometheus(tmp_path, f"127.0.0.1:{service.port}") as server, Redis.from_url(redis_url) as client:
        post_some_of_each(service)
        eventually(lambda: client.exists(TOPIC) and client.xinfo_groups(TOPIC), "the group is there")
        client.xreadgroup("billing", "one", {TOPIC: ">"}, count=1)
        missing = {target["expr"] for panel in PANELS for target in panel["targets"]}
        missing |= {
            f"count({re.search(r'[(](.*),', one['query']['query'])[1]})"
            for one in VARIABLES.values()
            if one["type"] == "query"
        }

        def all_answered():
            post_some_of_each(service)
            missing.difference_update([query for query in missing if server.ask(filled_in(query))])
            return not missing

        try:
            eventually(all_answered, "each query finds something", 45)
        except AssertionError:
            pytest.fail("these find nothing:\n" + "\n".join(sorted(missing)))


def filled_in(query):
    """Return a query as Grafana sends it: every instance, provider and project, and some seconds for a rate."""
    return (
        query.replace("$__rate_interval", "5s")
        .replace("$instance", ".*")
        .replace("$provider", ".*")
        .replace("$project", ".*")
    )


def test_the_dashboard_can_be_imported_anywhere():
    """No panel names a data source of its own, none lies over another, and each has a title and a unit."""
    places = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not places & cells, panel["title"]
        places |= cells
        assert panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    sources = [one["datasource"] for panel in PANELS for one in (panel, *panel["targets"])]
    sources += [one["datasource"] for one in VARIABLES.values() if one["type"] == "query"]
    assert sources
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in sources)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)
    used = set(re.findall(r"\$(?!__)\{?(\w+)", json.dumps(PANELS)))
    assert used == set(VARIABLES)


def test_the_dashboard_has_a_row_for_each_part():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Now", "Traffic", "Acks", "Delivery success", "Delay from the handset to us", "Redis", "Spool",
        "Consumer groups", "Quarantine, and strangers",
    ]  # fmt: skip
