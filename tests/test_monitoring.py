"""What watches the service: alerts, and the runbook that they link to, are about metrics that are there."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from servers import eventually

DEPLOY = Path(__file__).parents[1] / "deploy"
GUIDE = (DEPLOY / "README.md").read_text(encoding="utf-8")
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8")
#: What each section of the runbook answers.
ANSWERS = ("**Means:**", "**See it:**", "**Mend:**", "**Over when**")


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


def test_each_alert_fires_when_it_should_and_normal_traffic_fires_none():
    """By Prometheus' own tests of rules; none is forgotten."""
    files = ("alerts_test.yml", "alerts_week_test.yml")
    done = subprocess.run(
        [promtool(), "test", "rules", *files], cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tried = [
        re.search(r'alertname="(\w+)"', sample["labels"])[1]
        for name in files
        for test in yaml.safe_load(text(name))["tests"]
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
    eventually(lambda: not _unknown(named, receiver), "all are there; the figures of Redis with the first round", 15)


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


def test_each_alert_links_to_its_section_of_the_runbook_and_each_section_has_an_alert():
    """GitHub's anchor of a heading of one word is the word in lower case."""
    links = [rule["annotations"]["runbook_url"] for rule in _rules()]
    assert links == [f"deploy/RUNBOOK.md#{rule['alert'].lower()}" for rule in _rules()]
    assert [title for title, _ in _sections()] == [rule["alert"] for rule in _rules()]


def test_each_section_of_the_runbook_says_how_to_see_it_mend_it_and_know_that_it_is_over():
    """In this order, with two commands at most."""
    for title, section in _sections():
        assert re.findall(r"^\*\*[^*]+\*\*", section, re.MULTILINE) == list(ANSWERS), title
        [commands] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
        assert 1 <= len(commands.splitlines()) <= 2, title


def test_metrics_of_the_runbook_are_there(receiver):
    """As those of the guide."""
    named = set(re.findall(r"\breceiver_[a-z_]+\b", RUNBOOK))
    eventually(lambda: not _unknown(named, receiver), "all are there", 15)


def _unknown(named, service):
    """Return the metrics without a sample, but for those of groups, of which there are none; alerts ask for these."""
    found = {sample.name for sample in _samples(service)}
    found |= {name.removesuffix("_count") for name in found}  # documents name a histogram as a whole
    return {name for name in named - found if not name.startswith("receiver_group_")}


def _sections():
    alerts = RUNBOOK.partition("## Alerts")[2]
    return re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", alerts, re.MULTILINE | re.DOTALL)
