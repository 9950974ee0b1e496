"""The image and the compose files, as far as they can be checked without a container engine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from servers import free_port

from receiver.settings import read_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LOCK = DEPLOY / "requirements.txt"
COMPOSE = sorted(DEPLOY.rglob("compose*.yaml"))


def text(name):
    """Return a file of deploy/."""
    return (DEPLOY / name).read_text(encoding="utf-8")


def require_tool(module):
    """Skip when a checker of ours is not installed."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed (pip install -e '.[deploy]'): not checked against the public schemas")


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_compose_files_follow_the_public_schema_and_name_what_is_there(path):
    """Every volume, every file, and an exact version of every image that is not built here."""
    require_tool("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    compose = yaml.safe_load(path.read_text(encoding="utf-8"))
    for service in compose["services"].values():
        image = service.get("image", "built:0.0")
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+|^sms-callback-receiver$|^built", image), image
        sources = [mount.split(":")[0] for mount in service.get("volumes", ())]
        assert {name for name in sources if name[0] not in ".$"} <= set(compose.get("volumes", ()))
        assert all((path.parent / name).exists() for name in sources if name.startswith("."))


def test_compose_starts_the_receiver_without_waiting_for_redis():
    """It acknowledges from its spool until Redis is there."""
    services = yaml.safe_load(text("compose.yaml"))["services"]
    assert set(services) == {"receiver", "redis", "prometheus"}
    assert "depends_on" not in services["receiver"]
    assert services["redis"]["command"][1:3] == ["/etc/redis.conf", "--maxmemory"]


def test_the_build_context_holds_what_the_image_is_built_from_and_no_more():
    """Neither .git nor .venv nor data."""
    ignored, *taken = [line for line in text("Dockerfile.dockerignore").splitlines() if not line.startswith("#")]
    copied = [value.split()[:-1] for name, value in _instructions() if name == "COPY" and "--from" not in value]
    assert ignored == "*"
    assert {one.removeprefix("!") for one in taken if one.startswith("!")} == {
        one.removeprefix("./") for sources in copied for one in sources
    }


def test_the_environment_of_compose_is_a_configuration_that_starts(tmp_path):
    """With the file of secrets that the page makes; on all addresses, so with keys."""
    service = yaml.safe_load(text("compose.yaml"))["services"]["receiver"]
    environ, folder = service["environment"], "/etc/receiver/"
    assert "./config:/etc/receiver:ro" in service["volumes"], "a file alone would stay the old one after an edit"
    assert service["env_file"] == environ["RECEIVER_ENV_FILE"].replace(folder, "./config/")
    secrets = dict.fromkeys(("SMS_CALLBACK_KEY", "SMS_LOOKUP_TOKEN"), "c9a1f0d27b3e4856")
    given = {**environ, "RECEIVER_CONFIG": environ["RECEIVER_CONFIG"].replace(folder, f"{DEPLOY}/config/")}
    settings = read_settings(given | secrets | _image_environment())
    assert settings.host == "0.0.0.0"
    assert settings.projects.default.callback_keys == ("c9a1f0d27b3e4856",)


def test_nginx_of_compose_finds_the_receiver_and_is_believed():
    """By addresses that outlive the restart of either."""
    tls = yaml.safe_load(text("compose.tls.yaml"))
    addresses = {name: service["networks"]["front"]["ipv4_address"] for name, service in tls["services"].items()}
    [made, *_] = tls["services"]["nginx"]["command"][-1].splitlines()
    assert made.endswith("> /etc/nginx/conf.d/default.conf")
    command = made.partition(" >")[0].replace("/etc/nginx/receiver.conf", str(DEPLOY / "nginx.conf"))
    config = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^ +server ([\d.:]+)", config, re.MULTILINE)) == {
        f"{addresses['receiver']}:{port}" for port in (8080, 8081)
    }
    assert tls["services"]["receiver"]["environment"] == {"RECEIVER_TRUSTED_PROXIES": addresses["nginx"]}


def _instructions():
    lines = re.sub(r"\\\n\s*", "", text("Dockerfile")).splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def _image_environment():
    last = [value for name, value in _instructions() if name == "ENV"][-1]
    return {name: value for name, _, value in (part.partition("=") for part in last.split()) if name != "PATH"}


def test_the_image_runs_as_nobody_and_keeps_its_data_in_a_volume():
    """The last stage has no compiler and no pip of its own environment."""
    final = _instructions()[[n for n, (name, _) in enumerate(_instructions()) if name == "FROM"][-1] :]
    values = dict(final)
    assert values["USER"] == "receiver"
    assert values["VOLUME"] == _image_environment()["RECEIVER_DATA_DIR"] == "/data"
    assert json.loads(values["ENTRYPOINT"]) + json.loads(values["CMD"]) == ["receiver", "serve"]
    made = " ".join(value for name, value in final if name == "RUN")
    assert "pip" not in made
    # useradd alone takes another number for the group, and the service may not read its secrets.
    owner = re.search(r" -g (\d+) /dev/null config/environment", text("production.md"))[1]
    assert re.findall(r"-gid (\d+)", made) == [owner, owner]
    pod = yaml.safe_load(text("kubernetes/base/statefulset.yaml"))["spec"]["template"]["spec"]["securityContext"]
    uid = re.search(r"--uid (\d+)", made)[1]
    assert [str(pod[name]) for name in ("runAsUser", "runAsGroup", "fsGroup")] == [uid, owner, owner]


def test_the_health_check_of_the_image_tells_alive_from_dead(receiver):
    """Run by hand, as the engine would."""
    [check] = [value.partition("CMD ")[2] for name, value in _instructions() if name == "HEALTHCHECK"]
    _, *arguments = json.loads(check)
    for port, code in ((receiver.port, 0), (free_port(), 1)):
        done = subprocess.run(
            [sys.executable, *arguments], env={"PORT": str(port)}, capture_output=True, check=False, timeout=10
        )
        assert done.returncode == code


def locked():
    """Return the version of every package in the lock."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))


def required(requirements, extras=()):
    """Yield each requirement that holds here, and those of the packages that are installed for it."""
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement
            yield from required(importlib.metadata.requires(requirement.name) or [], requirement.extras)


def test_the_lock_has_what_the_project_needs_with_hashes_and_no_index():
    """After a change to the dependencies: its first lines have the command."""
    versions, lines = locked(), LOCK.read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for requirement in required([*project["project"]["dependencies"], *project["build-system"]["requires"]]):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in {LOCK}: run the command in its first lines"
        assert requirement.specifier.contains(versions[name]), f"{requirement} is not met by {versions[name]}"
    assert lines.count("==") == len(re.findall(r"==\S+.*\\\n    --hash=sha256:[0-9a-f]{64}", lines))
    assert "://" not in lines
