"""The stories of deploy/RUNBOOK.md: each fault is made, and the runbook's commands, word for word, solve it.

They run in bash, in the shell that the page sets up. Programs that need a machine of their own (systemctl, docker,
kubectl) are replaced by scripts that do the same to the service of this test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer

import pytest
from commands import run as run_command
from messages import OK, body, reply, report
from redis import Redis
from servers import Receiver, RedisServer, eventually, free_port

from receiver.embedded import valkey_binary

#: One service and one Valkey for all stories; a busy machine takes a while to start them.
pytestmark = pytest.mark.timeout(120)
PAGE = (Path(__file__).parents[2] / "deploy" / "RUNBOOK.md").read_text(encoding="utf-8")
KEY, PASSWORD = "c9a1f0d27b3e4856", "2f6b90ce"
SUCCESS, FAIL, QUARANTINE = (f"urn:smn:local:shop:{name}" for name in ("sms_success", "sms_fail", "quarantine"))
CONFIG = """
[projects.other]
callback_keys = ["env:OTHER_KEY"]

[projects.shop]
default = true
callback_keys = ["env:SMS_CALLBACK_KEY"]
consumer_groups = ["billing"]
"""
#: Stands for the installed command: this process runs it as a fork, which spares its start.
CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ["HERE"] + "/commands")
    server.sendall(json.dumps([sys.argv[1:], dict(os.environ), sys.stdin.read()]).encode())
    server.shutdown(socket.SHUT_WR)
    code, output, errors = json.load(server.makefile())
sys.stdout.write(output)
sys.stderr.write(errors)
sys.exit(code)
"""
#: What the set-ups call, as a script each. $HERE is the folder of the machine.
PROGRAMS = {
    "receiver": 'exec "$PYTHON" -S -E "$HERE/client.py" "$@"',
    "runuser": 'shift 4; exec receiver "$@"',
    "systemctl": '[ "$*" = "reload receiver" ] && exec kill -HUP "$(cat "$HERE/pid")"',
    "journalctl": 'exec cat "$HERE/log"',
    "redis-cli": 'exec "$REDIS_CLI" -p "$REDIS_PORT" "$@"',
    "valkey-cli": 'exec redis-cli "$@"',
    "python": 'exec "$PYTHON" "$@"',
    "docker": """
        case "$1 $2 $3 $4" in
            "compose exec receiver /opt/receiver/bin/receiver") program=receiver; shift 4;;
            "compose exec redis valkey-cli") program=valkey-cli; shift 4; export REDISCLI_AUTH=$REDIS_PASSWORD;;
        esac
        RECEIVER_ENV_FILE=$HERE/etc/receiver/environment exec $program "$@"
    """,
    "kubectl": """
        until [ "$1" = -- ]; do shift; done
        shift
        RECEIVER_ENV_FILE=$HERE/etc/receiver/environment exec "$@"
    """,
}


def section(title):
    """Return what stands below a heading of the third level."""
    return re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def steps(title):
    """Return the commands of a section, a line each."""
    return "".join(re.findall(r"```sh\n(.*?)```", section(title), re.DOTALL)).splitlines()


def advice(title, begins):
    """Return the command in the row of a section's table that begins so."""
    row = next(line for line in section(title).splitlines() if line.startswith(f"| {begins}"))
    return re.findall(r"`(receiver [^`]+)`", row)[0]


#: The block of each set-up, by its name.
SETUPS = re.findall(
    r"^(?:One machine with )?\[(\w+)\].*?```bash\n(.*?)```",
    PAGE.partition("## Your shell")[2],
    re.MULTILINE | re.DOTALL,
)


class Fork(StreamRequestHandler):
    """Runs a command of ``CLIENT``."""

    def handle(self):
        """Answer with its exit code and what it has printed."""
        arguments, environ, answer = json.load(self.rfile)
        done = run_command(arguments, environ, Path(environ["HERE"]), answer)
        self.wfile.write(json.dumps([done.returncode, done.stdout, done.stderr]).encode())


class Machine:
    """A machine with the service and its Redis, and a shell on it."""

    def __init__(self, folder):
        """Start both; their paths are below the folder in place of the root."""
        self.folder = folder
        for name in ("bin", "etc/receiver", "etc/redis", "redis"):
            (folder / name).mkdir(parents=True)
        for name, script in PROGRAMS.items():
            path = folder / "bin" / name
            path.write_text(f"#!/bin/bash -eu\n{script}\n")
            path.chmod(0o755)
        (folder / "client.py").write_text(CLIENT)
        self.forks = ThreadingUnixStreamServer(str(folder / "commands"), Fork)
        threading.Thread(target=self.forks.serve_forever, daemon=True).start()
        self.server = RedisServer(valkey_binary(), folder / "redis", requirepass=PASSWORD, maxmemory="1gb")
        self.internal, self.key = free_port(), KEY
        environment = folder / "etc/receiver/environment"
        (folder / "etc/redis/receiver.conf").write_text(f"requirepass {PASSWORD}\n")
        (folder / "etc/receiver/receiver.toml").write_text(CONFIG)
        environment.write_text(
            f"REDIS_URL={self.server.url}\nRECEIVER_CONFIG={folder}/etc/receiver/receiver.toml\n"
            f"RECEIVER_DATA_DIR={folder}/data\nRECEIVER_INTERNAL_PORT={self.internal}\nRECEIVER_SPOOL_MAX_BYTES=1GiB\n"
            f"SMS_CALLBACK_KEY={KEY}\nOTHER_KEY={KEY}\n"
        )
        environ = {"RECEIVER_ENV_FILE": str(environment), "RECEIVER_INTERNAL_PORT": str(self.internal)}
        self.service = Receiver(folder, environ)
        (folder / "pid").write_text(str(self.service.pid))
        (folder / "log").symlink_to(self.service.log)
        self.redis = Redis.from_url(self.server.url, decode_responses=True)

    def close(self):
        """Stop both."""
        self.forks.shutdown()
        self.forks.server_close()
        self.redis.close()
        assert self.service.stop() == 0
        self.server.kill()

    def shell(self, commands, setup="systemd", answer="", **words):
        """Run commands in the shell that the page sets up, with words in capitals replaced. Return what they print."""
        own = dict(SETUPS)[setup].replace("/etc/", f"{self.folder}/etc/").replace("8081", str(self.internal))
        commands = re.sub(r"\b[A-Z]{2,}(?:_[A-Z]+)*", lambda word: words.get(word[0], word[0]), commands)
        environ = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "HERE": str(self.folder), "PYTHON": sys.executable,
            "REDIS_CLI": str(shutil.which("redis-cli")), "REDIS_PORT": str(self.server.port),
            "REDIS_PASSWORD": PASSWORD, "HOME": str(self.folder),
        }  # fmt: skip
        done = subprocess.run(
            ["/bin/bash", "-c", f"{own}\n{commands}"],
            env=environ, input=answer, capture_output=True, text=True, check=False, cwd=self.folder,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def post(self, *items, key=None):
        """Post a callback."""
        return self.service.post(body([*items]), f"/sms/callback?key={key or self.key}")

    def read(self, consumer, topic=SUCCESS, group="billing", *, acknowledge=True):
        """Read new entries of a group, and return the ids of their events' messages by entry."""
        found = self.redis.xreadgroup(group, consumer, {topic: ">"}, noack=acknowledge)
        entries = found[0][1] if found else []
        return {id_: json.loads(fields["data"])["data"]["message_id"] for id_, fields in entries}

    @contextmanager
    def died_with(self, sid, **how):
        """Have a consumer read an event and die long ago. In the end nothing is pending."""
        self.read("host-1")
        assert self.post(report(sid)) == (200, OK)
        self.read("host-2", acknowledge=False)
        [entry] = [one["message_id"] for one in self.redis.xpending_range(SUCCESS, "billing", "-", "+", 2)]
        self.redis.xclaim(SUCCESS, "billing", "host-2", 0, [entry], idle=3_600_000, **how)
        yield entry
        self.redis.xack(SUCCESS, "billing", entry)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Return the machine of all stories."""
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed (Debian's package redis-tools): the runbook's commands are not run")
    made = Machine(tmp_path_factory.mktemp("machine"))
    yield made
    made.close()


def test_every_command_of_the_page_is_there_in_each_set_up():
    """As a function of its block, or as a program that is everywhere."""
    assert [name for name, _ in SETUPS] == ["systemd", "Compose", "Kubernetes"]
    used = {words for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for words in block.splitlines()}
    first = {part.split()[0] for line in used for part in re.split(r" (?:&&|\|) ", line)}
    for name, block in SETUPS:
        functions = set(re.findall(r"^([\w-]+)\(\)", block, re.MULTILINE))
        programs = {"echo", "sed", "grep", "date"} | ({"redis-cli"} if name == "systemd" else set())
        assert first <= functions | programs, name


@pytest.mark.parametrize("setup", [name for name, _ in SETUPS])
def test_each_set_up_gives_a_shell_in_which_the_commands_run(machine, setup):
    """With the password of Redis; that a command has the settings of the service, the stories show."""
    printed = machine.shell("receiver --version && redis-cli ping && receiver-get /readyz", setup)
    assert printed.startswith("receiver 0.")
    assert "PONG" in printed
    assert '"route":"redis"' in printed


def test_a_missing_report_is_found_with_its_consumer(machine):
    """It goes to a living one; what the application lost comes again."""
    title = "A report is missing"
    assert advice(title, "pending") in steps("A consumer is stuck"), "which is tried there"
    with machine.died_with("lost:1") as entry:
        found = machine.shell(steps(title)[0], MESSAGE_ID="lost:1")
        assert re.search(r"pending.*host-2", found)
    again = machine.shell(advice(title, "acknowledged"), answer="y\n", TOPIC="sms_success", ENTRY=entry)
    assert "1 event added." in again
    assert [*machine.read("host-1").values()] == ["lost:1"]


def test_a_full_redis_gets_more_memory_and_the_spool_drains(machine):
    """`groups` works meanwhile."""
    machine.redis.config_set("maxmemory", machine.redis.info("memory")["used_memory"] // 2)
    assert machine.post(report("full:1")) == (200, OK)
    eventually(lambda: machine.service.figure("receiver_spool_events") == 1, "it is in the spool")
    first, second = steps("Redis is full")
    assert "billing" in machine.shell(first)
    assert "OK" in machine.shell(second, MEMORY="1gb")
    eventually(lambda: machine.service.figure("receiver_spool_events") == 0, "the spool is drained")
    assert "full:1" in machine.read("host-1").values()


def test_a_growing_spool_is_explained_with_the_command_that_ends_it(machine):
    """`check` prints it, `spool status` counts."""
    machine.redis.config_set("min-replicas-to-write", 1)
    assert machine.post(report("spooled:1")) == (200, OK)
    eventually(lambda: machine.service.figure("receiver_spool_events") == 1, "it is in the spool")
    first, second = steps("The spool grows")
    [fix] = set(re.findall(r"redis-cli CONFIG SET [\w-]+ \d+", machine.shell(first)))
    assert "1 events wait" in machine.shell(second)
    machine.shell(fix)
    eventually(lambda: machine.service.figure("receiver_spool_events") == 0, "the spool is drained")


def test_a_stuck_consumer_loses_its_entry_to_another_or_to_the_dead_letters(machine):
    """By the command that `groups` prints; the dead letter comes back by those of its alert."""
    first, second = steps("A consumer is stuck")
    with machine.died_with("stuck:1") as entry:
        printed = machine.shell(first)
        assert f"receiver groups claim billing --topic {SUCCESS} --from host-2 --to CONSUMER" in printed
        told = machine.shell(second, GROUP="billing", DEAD="host-2", LIVING="host-1")
        assert "1 entry given to host-1" in told
        assert "restart it" in told
        assert machine.redis.xreadgroup("billing", "host-1", {SUCCESS: "0"})[0][1][0][0] == entry
    with machine.died_with("poison:1", retrycount=7):
        [printed] = re.findall(r"→ (receiver groups dead-letter .*)", machine.shell(first))
        assert "1 entry put aside" in machine.shell(printed, answer="y\n")
    eventually(lambda: machine.service.figure(f'receiver_dead_letters{{topic="{SUCCESS}"}}') == 1, "it is counted")
    first, second = steps("ReceiverDeadLetters")
    assert "no consumer finished it" in machine.shell(first)
    assert "1 event added" in machine.shell(second, answer="y\n", TOPIC="sms_success")
    assert "poison:1" in machine.read("host-1").values()
    assert machine.redis.xlen(f"{SUCCESS}_dead") == 0


def test_garbage_is_traced_to_its_address_and_kept_out(machine):
    """The provider's network is let in alone; its callbacks go on."""

    def from_address(source, content):
        connection = HTTPConnection("127.0.0.1", machine.service.port, source_address=(source, 0))
        connection.request("POST", f"/sms/callback?key={machine.key}", content)
        with closing(connection):
            return connection.getresponse().status

    first, second = steps("Garbage comes from a stranger")
    assert from_address("127.0.0.9", b'[{"sid":"garbage"}]') == 400
    found = eventually(lambda: machine.shell(first), "the address is logged")
    assert {json.loads(line)["address"] for line in found.splitlines()} == {"127.0.0.9"}
    machine.shell(second, PROJECT="shop", NETWORK="127.0.0.1/32")
    eventually(lambda: from_address("127.0.0.9", b'[{"sid":"garbage"}]') == 403, "the stranger is kept out")
    assert machine.post(reply()) == (200, OK)
    machine.redis.delete(QUARANTINE)


def test_items_that_a_new_version_knows_are_published(machine):
    """One was rejected by an older version, another one is wrong for this one as well."""
    assert machine.post(report("changed:1", mobile=None))[0] == 400
    item = json.dumps(report("changed:2"), ensure_ascii=False)
    data = {"event_type": "sms_rejected_event", "reasons": ["sid: unknown to the old version"], "item": item}
    source = {"specversion": "1.0", "id": "0" * 32, "source": "/tencent/shop", "type": "sms_rejected_event"}
    times = dict.fromkeys(("time", "receivedtime"), "2026-11-26T08:00:00.000Z")
    machine.redis.xadd(QUARANTINE, {"data": json.dumps({**source, **times, "data": data}, ensure_ascii=False)})
    first, second = steps("A provider has changed its format")
    assert "unknown to the old version" in machine.shell(first)
    machine.shell(second)
    assert "changed:2" in machine.read("host-1").values()
    assert machine.redis.xlen(QUARANTINE) == 1
    machine.redis.delete(QUARANTINE)


def test_a_key_is_rotated_without_a_lost_callback(machine):
    """Both are taken meanwhile; another project keeps its own."""
    first, second = steps("A key is rotated")
    words = {"PROJECT": "shop", "NEW": "SMS_CALLBACK_KEY_2", "OLD": "SMS_CALLBACK_KEY"}
    machine.shell(first, **words)
    counted = 'receiver_callback_keys_total{key="%d",project="shop",provider="tencent"}'
    eventually(
        lambda: counted % 2 in machine.shell("receiver-get /metrics"), "its place is there before its first callback"
    )
    secrets = (machine.folder / "etc/receiver/environment").read_text()
    new = re.search(r"^SMS_CALLBACK_KEY_2=(.+)$", secrets, re.MULTILINE)[1]
    eventually(lambda: machine.post(reply(), key=new)[0] == 200, "the new one is taken")
    assert machine.post(reply())[0] == 200
    machine.shell(second, **words)
    eventually(lambda: machine.post(reply())[0] == 401, "the old one is not")
    assert machine.post(reply(), key=new)[0] == 200
    assert machine.service.post(body([reply()]), f"/sms/callback/other?key={KEY}")[0] == 200
    assert all(machine.service.figure(counted % place) for place in (1, 2))
    machine.key = new


def test_a_project_is_added_without_a_restart(machine):
    """Its key is accepted, and `check` shows its URL."""
    *edits, check = steps("A project is added")
    words = {"PROJECT": "new-shop", "NEW": "NEW_SHOP_KEY"}
    machine.shell("\n".join(edits), **words)
    key = re.search(r"^NEW_SHOP_KEY=(.+)$", (machine.folder / "etc/receiver/environment").read_text(), re.MULTILINE)[1]
    url = f"/callbacks/aliyun/new-shop?key={key}"
    eventually(lambda: machine.service.post(b"[]", url)[0] == 200, "the service has the project")
    assert "/callbacks/tencent/new-shop?key=***" in machine.shell(check)
    assert machine.post(reply()) == (200, OK)


def test_a_new_consumer_begins_with_yesterday(machine):
    """On the topic that it reads, and on no other."""
    assert machine.post(report("yesterday:1")) == (200, OK)
    [step] = steps("Yesterday's events for a new consumer")
    assert "begins with" in machine.shell(step, PROJECT="shop", GROUP="crm", TOPIC="sms_success")
    assert "yesterday:1" in machine.read("one", group="crm").values()
    assert {one["name"] for one in machine.redis.xinfo_groups(FAIL)} == {"billing"}
