"""deploy/kubernetes: valid by the public schemas, consistent, and a configuration with which the service starts."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from commands import run as run_command
from pages import commands, run
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from servers import Child, eventually, free_port

from receiver.embedded import valkey_binary
from receiver.environment import read_env_file
from receiver.runtime.signals import longest_stop_of_all
from receiver.settings import read_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
OF_OPERATORS = {"ServiceMonitor", "PrometheusRule"}


def documents(text):
    """Return the resources of a file, but for those of kustomize itself."""
    found = [one for one in yaml.safe_load_all(text) if isinstance(one, dict) and "kind" in one]
    return [one for one in found if not one["apiVersion"].startswith("kustomize.")]


def resources():
    """Return every resource of every file, with kustomize's additions left out."""
    paths = [path for folder in ("kubernetes", "sentinel", "cluster") for path in (DEPLOY / folder).rglob("*.yaml")]
    manifests = [path for path in paths if not path.name.startswith("compose")]
    return [one for path in manifests for one in documents(path.read_text(encoding="utf-8"))]


def build(folder):
    """Build an overlay."""
    kubectl, kustomize = shutil.which("kubectl"), shutil.which("kustomize")
    if not kubectl and not kustomize:
        pytest.skip("neither kubectl nor kustomize is installed: the overlay is not built")
    command = [kustomize, "build"] if kustomize else [kubectl, "kustomize"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def validate(found, tmp_path):
    """Check resources strictly against the schemas of Kubernetes."""
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes_validate is not installed (pip install -e '.[deploy]'): no schema is asked")
    path = tmp_path / "resources.yaml"
    path.write_text(yaml.safe_dump_all(one for one in found if one["kind"] not in OF_OPERATORS), encoding="utf-8")
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", "1.32", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def production(tmp_path):
    """Return a copy of the overlay, with the secrets that the page makes."""
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "deploy" / "kubernetes")
    [*lines] = commands("kubernetes.md", "Install", tmp_path).splitlines()
    run("\n".join([commands("kubernetes.md", "Redis", tmp_path), *lines[: lines.index("END") + 1]]), tmp_path)
    return tmp_path / "deploy" / "kubernetes" / "production"


def test_every_resource_is_valid(tmp_path):
    """By its own schema, without fields that Kubernetes does not know."""
    validate(resources(), tmp_path)


def test_the_overlay_is_built_and_a_changed_configuration_replaces_the_pods(production, tmp_path):
    """The name of the configuration has a hash of its content; whatever selects pods selects those of the receiver."""
    built = build(production)
    validate(documents(built), tmp_path)
    config = production.parent / "base" / "receiver.toml"
    config.write_text(config.read_text() + "# changed\n")
    [before], [after] = (
        [pod(one) for one in documents(text) if one["kind"] == "StatefulSet"] for text in (built, build(production))
    )
    assert before["volumes"][0]["configMap"]["name"] != after["volumes"][0]["configMap"]["name"]
    assert before["containers"][0]["image"] == "registry.example.com/sms-callback-receiver:0.1.0"


def pod(controller):
    """Return the specification of its pods."""
    return controller["spec"]["template"]["spec"]


def receiver_pod(found):
    """Return the specification of the receiver's pods."""
    [controller] = [one for one in found if (one["kind"], one["metadata"]["name"]) == ("StatefulSet", "receiver")]
    return pod(controller)


def test_the_pods_have_a_good_configuration_and_are_asked_at_the_right_paths(production, receiver):
    """Probes answer, the disk is where the image writes, the spool is smaller, and a stop has its time."""
    [stateful_set] = [
        one for one in resources() if (one["kind"], one["metadata"]["name"]) == ("StatefulSet", "receiver")
    ]
    spec = pod(stateful_set)
    [container] = spec["containers"]
    environ = {one["name"]: one["value"] for one in container["env"]} | read_env_file(production / "secrets.env")
    settings = read_settings({**environ, "RECEIVER_CONFIG": str(BASE / "receiver.toml"), "RECEIVER_HOST": "0.0.0.0"})
    assert len(settings.projects.default.callback_keys[0]) == 32
    assert settings.stop_delay == 5
    for probe in ("livenessProbe", "readinessProbe"):
        assert receiver.get(container[probe]["httpGet"]["path"])[0] == 200
    assert spec["terminationGracePeriodSeconds"] > longest_stop_of_all(settings)
    assert spec["enableServiceLinks"] is False  # the Service's name would make RECEIVER_PORT, which is no setting
    assert "/data" in [mount["mountPath"] for mount in container["volumeMounts"]]
    [claim] = stateful_set["spec"]["volumeClaimTemplates"]
    disk = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
    assert settings.spool_max_bytes < disk * 2**30


def test_the_page_ends_with_a_check_that_passes(production, tmp_path):
    """With the Redis of the page, as its manifest starts it, and with the settings and secrets of the pods."""
    manifest = documents((DEPLOY / "kubernetes" / "redis.yaml").read_text(encoding="utf-8"))
    [redis] = [pod(one)["containers"][0] for one in manifest if one["kind"] == "StatefulSet"]
    [container] = receiver_pod(resources())["containers"]
    environ = {one["name"]: one["value"] for one in container["env"]} | read_env_file(production / "secrets.env")
    url = urlsplit(environ["REDIS_URL"])
    assert url.hostname == manifest[0]["metadata"]["name"]
    config, port = tmp_path / "redis.conf", free_port()
    config.write_text((DEPLOY / "redis.conf").read_text(encoding="utf-8").replace("dir /data", f"dir {tmp_path}"))
    command = (
        redis["command"][-1]
        .replace("valkey-server", str(valkey_binary()))
        .replace("/etc/redis/redis.conf", str(config))
    )
    server = Child(
        ["/bin/sh", "-c", f"{command} --port {port}"], tmp_path / "redis.log", {"REDIS_PASSWORD": url.password}
    )
    try:
        here = {
            "REDIS_URL": f"redis://:{url.password}@127.0.0.1:{port}/0",
            "RECEIVER_CONFIG": str(BASE / "receiver.toml"),
            "RECEIVER_DATA_DIR": str(tmp_path),
            "RECEIVER_SPOOL_MAX_BYTES": "1MiB",
        }
        with Redis.from_url(here["REDIS_URL"]) as client:
            eventually(lambda: answers(client), "Redis answers")
        done = run_command(["check", "--strict"], environ | here, tmp_path)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "All is well."), done.stdout
    finally:
        server.kill()


def answers(client):
    """Tell whether a Redis answers by now."""
    try:
        return client.ping()
    except RedisConnectionError:
        return False


def selectors(resource):
    """Yield the labels by which a resource selects pods."""
    spec = resource.get("spec") or {}
    for each in (spec.get("podSelector"), spec.get("selector")):
        if each:
            yield each.get("matchLabels", each)
    for each in pod(resource).get("topologySpreadConstraints", ()) if "template" in spec else ():
        yield each["labelSelector"]["matchLabels"]


def test_whatever_selects_pods_or_services_selects_some():
    """Services, budgets, policies and spreading name labels that a pod has; the monitor those of a Service."""
    found = resources()
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in found if "template" in (one.get("spec") or {})]
    services = [one["metadata"].get("labels", {}) for one in found if one["kind"] == "Service"]
    for one in found:
        there = services if one["kind"] == "ServiceMonitor" else pods
        for wanted in selectors(one):
            assert any(wanted.items() <= labels.items() for labels in there), one["metadata"]["name"]


def test_the_ingress_writes_no_body_to_disk_and_no_url_to_its_access_log():
    """A body that does not fit its buffer is written to a file, with a line in the error log that has the URL."""
    [ingress] = [one["metadata"]["annotations"] for one in resources() if one["kind"] == "Ingress"]
    of = {name.rpartition("/")[2]: value for name, value in ingress.items()}
    assert of["enable-access-log"] == "false"
    assert of["client-body-buffer-size"] == of["proxy-body-size"] == f"{read_settings({}).max_body >> 20}m"


def test_the_alerts_become_a_rule_of_the_operator():
    """By the command of the page."""
    [*_, last] = commands("kubernetes.md", "Install", DEPLOY).splitlines()
    rule = yaml.safe_load(run(last.partition("|")[0]))
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))
