"""What is in deploy/ works, as far as that can be told without a container engine: its commands are run by hand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from itertools import product
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from servers import RedisServer, eventually

from receiver.embedded import valkey_binary
from receiver.runtime.signals import longest_stop, longest_stop_of_all
from receiver.settings import read_settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
GUIDE = (DEPLOY / "README.md").read_text(encoding="utf-8")


def text(name):
    """Return a file of deploy/."""
    return (DEPLOY / name).read_text(encoding="utf-8")


def promtool():
    """Return the path of Prometheus' own checker."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian's package prometheus): its files are not checked")
    return found


@pytest.mark.parametrize(("what", "name"), [("config", "prometheus.yml"), ("rules", "alerts.yml")])
def test_prometheus_accepts_its_files(what, name):
    """Scrape configuration and alerts."""
    done = subprocess.run([promtool(), "check", what, name], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_all_are_silent_in_peace():
    """By Prometheus' own tests of rules; none is forgotten."""
    done = subprocess.run(
        [promtool(), "test", "rules", "alerts_test.yml"], cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tried = [
        re.search(r'alertname="(\w+)"', sample["labels"])[1]
        for test in yaml.safe_load(text("alerts_test.yml"))["tests"]
        for question in test["promql_expr_test"]
        for sample in question["exp_samples"]
    ]
    assert set(tried) == {rule["alert"] for rule in _rules()}


def test_what_alerts_ask_for_is_there_before_anything_happens(serve):
    """A metric that is renamed would silence its alert for ever, and a counter that is born at 1 for its first burst.

    With an index, so that there is a group; retention reports on it within seconds.
    """
    service = serve(RECEIVER_INDEX="1")
    eventually(lambda: b'group="receiver-lookups"' in service.get("/metrics")[1], "the groups are reported on", 15)
    samples = _samples(service)
    asked = {selector for rule in _rules() for selector in _selectors(rule["expr"])}
    assert len(asked) > 10
    assert asked - _answered(asked, samples) == set()
    at_first = {one.value for one in samples if one.name in {name for name, _ in asked if name.endswith("_total")}}
    assert at_first == {0}


def test_what_the_guide_tells_to_watch_is_there(receiver):
    """With a sample, not only its name."""
    named = set(re.findall(r"\breceiver_[a-z_]+\b", GUIDE))
    assert "receiver_unread_trimmed_total" in named
    groups = {"receiver_group_oldest_unacknowledged_seconds"}  # of which there are none; alerts ask for it, too
    assert named - groups - {sample.name for sample in _samples(receiver)} == set()


def _rules():
    return [rule for group in yaml.safe_load(text("alerts.yml"))["groups"] for rule in group["rules"]]


def _selectors(words):
    """Yield each name of ours with one value for each label that is asked for: ``a{b=~"c|d"}`` asks for two samples."""
    for name, matchers in re.findall(r"\b(receiver_[a-z_]+)\b(?:\{([^}]*)\})?", words):
        found = re.findall(r'(\w+)=~?"([^"]*)"', matchers)
        for values in product(*(value.split("|") for _, value in found)):
            yield name, frozenset(zip((label for label, _ in found), values, strict=True))


def _samples(service):
    families = text_string_to_metric_families(service.get("/metrics")[1].decode())
    return [sample for family in families for sample in family.samples]


def _answered(asked, samples):
    return {
        (name, labels)
        for name, labels in asked
        if any(sample.name == name and labels <= set(sample.labels.items()) for sample in samples)
    }


@pytest.mark.parametrize("server", ["valkey", "redis-server"])
def test_a_redis_of_our_configuration_is_durable_and_never_evicts(server, tmp_path):
    """It starts with the file as it is, but for port and folder."""
    binary = valkey_binary() if server == "valkey" else shutil.which(server)
    if binary is None:
        pytest.skip(f"{server} is not installed (Debian's package {server})")
    (tmp_path / "redis.conf").write_text(text("redis.conf").replace("dir /data", f"dir {tmp_path}"))
    process = RedisServer(binary, tmp_path, config=tmp_path / "redis.conf")
    try:
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
        with Redis.from_url(process.url, decode_responses=True) as client:
            assert client.config_get(*wanted) == wanted
    finally:
        process.stop()


def test_whoever_stops_the_service_waits_longer_than_it_takes():
    """Killed earlier, it would leave requests unanswered and its children behind; with workers it takes longest."""
    longest = longest_stop_of_all(read_settings({}))
    service = yaml.safe_load(text("compose.yaml"))["services"]["receiver"]
    assert int(service["stop_grace_period"].removesuffix("s")) > longest
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", text("receiver.service"), re.MULTILINE)
    assert int(seconds) > longest


def test_the_supervisor_of_workers_waits_longer_than_they_take():
    """Gunicorn kills what has not ended after its graceful_timeout."""
    code = """
        from receiver.runtime.gunicorn_arbiter import GunicornApplication
        from receiver.settings import read_settings
        print(GunicornApplication(read_settings({})).cfg.graceful_timeout)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env={"RECEIVER_LISTENERS": "0"}, capture_output=True, text=True, check=True)
    settings = read_settings({})
    assert longest_stop(settings) < int(done.stdout) < longest_stop_of_all(settings)


def test_the_guide_says_how_long_a_stop_may_take():
    """Operators that set the two settings higher have to set the time to wait higher, too."""
    settings = read_settings({})
    [more] = re.findall(r"and `RECEIVER_STOP_TIMEOUT` together and (\d+) s", GUIDE)
    assert int(more) >= longest_stop_of_all(settings) - settings.stop_delay - settings.stop_timeout


def test_deployments_keep_the_data_folder_private():
    """No other user of the machine reads phone numbers."""
    assert {"StateDirectoryMode=0700", "UMask=0077"} <= set(text("receiver.service").splitlines())
    assert "-m 0700 /data" in text("Dockerfile")


def test_systemd_stops_the_service_and_leaves_its_children_to_it():
    """SIGTERM for all, its default, would end the report index under a service that starts it again."""
    assert "KillMode=mixed" in text("receiver.service").splitlines()


def test_the_procfile_runs_the_service():
    """For platforms that read it; they set PORT and REDIS_URL."""
    assert "web: receiver serve" in (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
