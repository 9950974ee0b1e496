"""Settings: every mistake is found at start, all at once, with its place and the mend."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from receiver.errors import SettingsError
from receiver.settings import Settings, described, read_settings, unknown_names

PROJECT = "[projects.p1]\n"


@pytest.fixture
def config(tmp_path):
    """Write a configuration and return the environment that names it."""

    def write(toml, **environ):
        path = tmp_path / "receiver.toml"
        path.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
        return {"RECEIVER_CONFIG": str(path), **environ}

    return write


def problems(environ):
    """Return what is wrong with an environment."""
    with pytest.raises(SettingsError) as caught:
        read_settings(environ)
    return caught.value.problems


def test_without_anything_there_is_one_open_project_on_loopback():
    """So that it runs with one command."""
    settings = read_settings({})
    assert (settings.host, settings.port, settings.redis_url) == ("127.0.0.1", 8080, None)
    assert [project.id for project in settings.projects.values()] == ["default"]
    assert settings.projects.default.open


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("PORT", "9000", 9000),
        ("REDIS_URL", "rediss://u:p@host:6380/3", "rediss://u:p@host:6380/3"),
        ("REDIS_URL", "unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("REDIS_URL", "unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("REDIS_URL", "unix://user:p%40ss@/run/redis.sock", "unix://user:p%40ss@/run/redis.sock"),
        ("REDIS_URL", "redis://[::1]:6380", "redis://[::1]:6380"),
        ("REDIS_URL", "redis://host/", "redis://host/"),
        ("REDIS_URL", "valkey://host:6380/3", "valkey://host:6380/3"),
        ("REDIS_URL", "valkeys://host?ssl_ca_certs=/ca.pem", "valkeys://host?ssl_ca_certs=/ca.pem"),
        ("REDIS_URL", "rediss://host?ssl_cert_reqs=none", "rediss://host?ssl_cert_reqs=none"),
        ("RECEIVER_DATA_DIR", "/var/lib/receiver", Path("/var/lib/receiver")),
        ("RECEIVER_MAX_BODY", "65536", 65536),
        ("RECEIVER_MAX_BODY", "64KiB", 65536),
        ("RECEIVER_MAX_BODY", "64 kb", 65536),
        ("RECEIVER_SPOOL_MAX_BYTES", "2TiB", 2 << 40),
        ("RECEIVER_PUBLISH_TIMEOUT", "500ms", 0.5),
        ("RECEIVER_READ_TIMEOUT", "20", 20.0),
        ("RECEIVER_PUBLISH_TIMEOUT", "1.2s", 1.2),
        ("RECEIVER_PUBLISH_TIMEOUT", "0.25", 0.25),
        ("RECEIVER_READ_TIMEOUT", "1m30s", 90.0),
        ("RECEIVER_RETENTION", "72h", 259200.0),
        ("RECEIVER_DEDUPE_WINDOW", "7d", 604800.0),
        ("RECEIVER_ALLOW_OPEN", "1", True),
        ("RECEIVER_ALLOW_OPEN", "false", False),
        ("RECEIVER_HOST", "", "127.0.0.1"),
    ],
)
def test_a_setting_is_read_from_its_variable(variable, text, value):
    """In the units that people write; an empty one is as if it were not there."""
    name = variable.lower().removeprefix("receiver_")
    assert getattr(read_settings({variable: text}), name) == value


@pytest.mark.parametrize(
    ("variable", "text", "mend"),
    [
        ("PORT", "0", "greater than or equal to 1"),
        ("PORT", "http", "integer"),
        ("REDIS_URL", "localhost:6379", "redis://host:6379/0"),
        ("REDIS_URL", "redis:host", "redis://host:6379/0"),
        ("REDIS_URL", "redis://127.0.0.1:notaport", "redis://host:6379/0"),
        ("REDIS_URL", "redis://127.0.0.1:70000", "from 1 to 65535"),
        ("REDIS_URL", "redis://127.0.0.1:0", "from 1 to 65535"),
        ("REDIS_URL", "redis://[::1", "[::1]"),
        ("REDIS_URL", "redis://:a/b@host", "%2F for /"),
        ("REDIS_URL", "redis://host#fragment", "%23 for #"),
        ("REDIS_URL", "redis://host/abc", "number of a database"),
        ("REDIS_URL", "redis://host/1/2", "number of a database"),
        ("REDIS_URL", "redis://host/-1", "number of a database"),
        ("REDIS_URL", "redis://host?foo=bar", "remove ?"),
        ("REDIS_URL", "redis://host?socket_timeout=abc", "remove ?"),
        ("REDIS_URL", "redis://host?protocol=3", "remove ?"),
        ("REDIS_URL", "rediss://host?protocol=3", "ssl_ca_certs"),
        ("REDIS_URL", "rediss://host?ssl_cert_reqs=perhaps", "none, optional or required"),
        ("REDIS_URL", "unix://run/redis.sock", "three slashes"),
        ("REDIS_URL", "unix:///run/redis.sock?db=abc", "?db=0"),
        ("REDIS_URL", "redis://one:6379,two:6379", "redis+cluster://"),
        ("REDIS_URL", "redis+cluster://", "address 1 of 1 is not host:port"),
        ("REDIS_URL", "redis+cluster://one:6379,two:x", "address 2 of 2 is not host:port"),
        ("REDIS_URL", "redis+cluster://one,::1", "IPv6 addresses as [::1]"),
        ("REDIS_URL", "redis+cluster://one:70000", "address 1 of 1"),
        ("REDIS_URL", "redis+cluster://one/1", "database 0 alone"),
        ("REDIS_URL", "redis+cluster://one?ssl_ca_certs=/ca.pem", "remove ?"),
        ("REDIS_URL", "rediss+cluster://one?sentinel_password=x", "ssl_ca_certs"),
        ("REDIS_URL", "redis+cluster://:a/b@one", "%2F for /"),
        ("REDIS_URL", "redis+sentinel://one", "redis+sentinel://host:26379/mymaster/0"),
        ("REDIS_URL", "redis+sentinel://one/mymaster/x", "number of a database"),
        ("REDIS_URL", "redis+sentinel://one/mymaster?db=1", "sentinel_username, sentinel_password"),
        ("RECEIVER_LOG_LEVEL", "verbose", "debug, info, warning, error"),
        ("RECEIVER_MAX_BODY", "5 apples", "64MiB"),
        ("RECEIVER_MAX_BODY", "1", "1024"),
        ("RECEIVER_PUBLISH_TIMEOUT", "fast", "500ms"),
        ("RECEIVER_PUBLISH_TIMEOUT", "5s", "between 0.01 and 1.2 seconds"),
        ("RECEIVER_ALLOW_OPEN", "perhaps", "boolean"),
        ("RECEIVER_TRUSTED_PROXIES", "10.0.0.0/8,proxy.local", "203.0.113.0/24"),
        ("RECEIVER_TRUSTED_PROXIES", "10.0.0.1/8", "host bits"),
        ("RECEIVER_HOST", "[::1]", "write ::1"),
        ("RECEIVER_CONFIG", "/nowhere/receiver.toml", "No such file"),
    ],
)
def test_a_mistake_names_the_variable_and_the_mend(variable, text, mend):
    """In one sentence, for whoever has to correct it."""
    [problem] = problems({variable: text})
    assert problem.startswith(variable)
    assert mend in problem


def test_all_mistakes_are_told_at_once(config):
    """Those of the environment and those of the file."""
    environ = config(
        """
        region = "no region"
        [projects.p1]
        callback_keys = "not a list"
        callback_key = ["slip"]
        allowed_networks = ["203.0.113.0/24", "203.0.113.999"]
        tokens = ["env:UNSET_TOKEN", ""]
        [projects."not an id"]
        """,
        PORT="70000",
        RECEIVER_MAX_BODY="big",
    )
    found = problems(environ)
    assert len(found) == 9
    for part in (
        "PORT='70000'",
        "RECEIVER_MAX_BODY='big'",
        "toml: region: ",
        "projects.p1.callback_keys: ",
        "projects.p1.callback_key: Unknown field",
        "projects.p1.allowed_networks[1]: ",
        "projects.p1.tokens[0]: the environment variable UNSET_TOKEN is not set",
        "projects.p1.tokens[1]: ",
        "projects.not an id: ",
    ):
        assert any(part in problem for problem in found), part


def test_contradictions_are_told_beside_mistakes(config):
    """Between projects, and in the rest of the one with the mistake."""
    toml = """
    [projects.a]
    default = true
    colour = "red"
    tokens = [5]
    [projects.b]
    default = true
    callback_keys = ["first-key-of-b"]
    [projects.b.routes]
    sms_reply_event = "nowhere"
    sms_other_event = "nowhere"
    """
    found = problems(config(toml, RECEIVER_HOST="0.0.0.0"))
    assert len(found) == 6
    for part in (
        "projects.a.colour: Unknown field",
        "projects.a.tokens[0]: ",
        "projects.b.routes.sms_other_event: ",
        "projects a, b are all marked default",
        "projects.b.routes.sms_reply_event = 'nowhere'",
        "project a has no callback_keys",
    ):
        assert any(part in problem for problem in found), part


@pytest.mark.parametrize("toml", ["[projects.p1", "projects = 5", PROJECT + "callback_keys = ['env:UNSET_KEY']"])
def test_keys_that_cannot_be_read_are_not_told_to_be_none(config, toml):
    """Whoever writes them is not told to write them."""
    [problem] = problems(config(toml, RECEIVER_HOST="0.0.0.0"))
    assert "has no callback_keys" not in problem


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("", "projects: name at least one project: [projects.<id>]"),
        ("[projects]", "name at least one project"),
        ("[projects.p1", "invalid TOML"),
        (b"# \xff", "invalid TOML"),
        ("projects = 5", "projects: name at least one project: [projects.<id>]"),
        ("projects.p1 = 5", "projects.p1: must be a table; write [projects.<id>]"),
        ("[projects.'not an id']", "projects.not an id: the id of a project has 1 to 64 of the characters A-Z"),
        ("region = '-'\n" + PROJECT, "region: write 1 to 64 of the characters"),
        (PROJECT + "tokens = 'x'", 'projects.p1.tokens: must be a list; write ["…"]'),
        (PROJECT + "tokens = [5]", "projects.p1.tokens[0]: must be text; write it in quotes"),
        (PROJECT + "users = ['x']", 'projects.p1.users: must be a table; write {name = "…"}'),
        (PROJECT + "colour = 'red'", "projects.p1.colour: Unknown field; use one of: region, default, "),
        ("colour = 'red'\n" + PROJECT, "colour: Unknown field; use one of: region, projects."),
        (PROJECT + "default = 'yes'", "projects.p1.default: write true or false, without quotes"),
        (PROJECT + "[projects.p1.routes]\nsms_other_event = 'urn:smn:x:p1:a'", "sms_other_event"),
        (PROJECT + "[projects.p1.routes]\nsms_reply_event = 'a'", "write urn:smn:{region}:{project_id}:{name}"),
        (PROJECT + "[projects.p1.routes]\nsms_reply_event = 'urn:smn:x:p2:a'", "stays in its own project, p1"),
        (PROJECT + "[projects.p1.routes]\nsms_reply_event = 'urn:smn:x:p1:quarantine'", "quarantine"),
        (PROJECT + "consumer_groups = ['a', 'a']", "twice"),
        (PROJECT + "partitions = {sms_success_event = 4}", "write a list: [{ since = 2026-12-01T00:00:00Z, streams"),
        (PROJECT + "partitions = {sms_success_event = []}", "projects.p1.partitions.sms_success_event"),
        (PROJECT + "partitions = {sms_other_event = [{streams = 2}]}", "sms_other_event"),
        (PROJECT + "partitions = {sms_success_event = [{streams = 3}]}", "[0].streams: write a power of two from 1 to"),
        (PROJECT + "partitions = {sms_success_event = [{streams = 128}]}", "write a power of two from 1 to 64"),
        (PROJECT + "partitions = {sms_success_event = [{streams = '2'}]}", "write a power of two from 1 to 64"),
        (PROJECT + "partitions = {sms_success_event = [{since = '2026', streams = 2}]}", "write a time with its zone"),
        (PROJECT + "partitions = {sms_success_event = [{since = 2026-12-01, streams = 2}]}", "a time with its zone"),
        (PROJECT + "partitions = {sms_success_event = [{streams = 2}, {streams = 4}]}", "in the order of their times"),
        (PROJECT + "consumer_groups = ['receiver-lookups']", "the group of the report index"),
        ("[projects.p1]\ndefault=true\n[projects.p2]\ndefault=true", "p1, p2 are all marked default"),
        (PROJECT + "callback_keys = ['']", "projects.p1.callback_keys[0]: "),
    ],
)
def test_a_mistake_in_the_file_names_its_place(config, toml, problem):
    """And the file."""
    environ = config(toml)
    [found] = problems(environ)
    assert environ["RECEIVER_CONFIG"] in found
    assert problem in found


def test_a_project_is_read_with_its_secrets_from_the_environment(config):
    """So that the file can be shown to others."""
    toml = """
    region = "cn-north-4"
    [projects.p1]
    default = true
    callback_keys = ["env:NEW_KEY", "the-earlier-one"]
    allowed_networks = ["203.0.113.0/24", "2001:db8::1"]
    tokens = ["token-of-p1"]
    sign_id = "s"
    consumer_groups = ["billing"]
    routes = {sms_reply_event = "urn:smn:x:p1:a"}
    partitions = {sms_fail_event = [{streams = 2}, {since = 2026-12-01T08:00:00+08:00, streams = 4}]}
    access_keys = {AK = "env:NEW_KEY"}
    users = {lookup = "pass-of-lookup"}
    [projects.p2]
    region = "eu-1"
    """
    projects = read_settings(config(toml, NEW_KEY="key-of-p1")).projects
    project = projects["p1"]
    assert projects.default is project
    assert (project.region, projects["p2"].region) == ("cn-north-4", "eu-1")
    assert project.callback_keys == ("key-of-p1", "the-earlier-one")
    assert [str(network) for network in project.allowed_networks] == ["203.0.113.0/24", "2001:db8::1/128"]
    assert (project.sign_id, project.consumer_groups, project.access_keys) == ("s", ("billing",), {"AK": "key-of-p1"})
    assert project.partitions["sms_fail_event"].changes == (("", 2), ("2026-12-01T00:00:00Z", 4))
    assert not project.open
    assert projects["p2"].open


def test_secrets_are_in_no_repr(config):
    """A settings object that is logged by mistake tells nothing."""
    toml = (
        PROJECT
        + "callback_keys=['hush1hush']\ntokens=['hush2hush']\naccess_keys={a='hush3hush'}\nusers={u='hush4hush'}"
    )
    settings = read_settings(
        config(toml, REDIS_URL="redis://:hush5@h", RECEIVER_FETCH_PROXY="http://:hush6@proxy.example")
    )
    assert "hush" not in repr(settings)


def test_a_secret_is_in_no_message(config):
    """Also not when something else about it is wrong."""
    found = problems(config(PROJECT + "callback_keys = ['" + "hush" * 200 + "']"))
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "rediss:/:hush@host"), ("REDIS_URL", "redis://:hush@host:port"), ("REDIS_URL", "hush"),
        ("REDIS_URL", "redis://:hush@host/abc"), ("REDIS_URL", "redis://:hush/@host"),
        ("RECEIVER_FETCH_PROXY", "socks5://bob:hush@proxy:1080"), ("RECEIVER_FETCH_PROXY", "bob:hush@proxy:3128"),
    ],
)  # fmt: skip
def test_a_url_with_a_password_is_in_no_message(name, url):
    """What is wrong about it may be just that."""
    [problem] = problems({name: url})
    assert problem.startswith(f"{name}: ")
    assert "hush" not in problem


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "receiver.example"])
def test_an_open_project_on_a_public_address_does_not_start(config, host):
    """Anybody could post to it; the message says both mends."""
    [problem] = problems({"RECEIVER_HOST": host})
    assert "callback_keys" in problem
    assert "RECEIVER_ALLOW_OPEN=1" in problem
    two = config("[projects.a]\ncallback_keys=['first-key-of-a']\n[projects.b]", RECEIVER_HOST=host)
    [problem] = problems(two)
    assert problem.startswith("project b ")


@pytest.mark.parametrize(
    "environ",
    [
        {"RECEIVER_HOST": "127.0.0.5"},
        {"RECEIVER_HOST": "::1"},
        {"RECEIVER_HOST": "localhost"},
        {"RECEIVER_HOST": "0.0.0.0", "RECEIVER_ALLOW_OPEN": "1"},
    ],
)
def test_an_open_project_starts_where_strangers_cannot_reach_it(environ):
    """Or where the operator says so."""
    assert read_settings(environ)


def test_a_keyed_project_may_listen_on_all_addresses(config):
    """That is how it is run."""
    assert read_settings(config(PROJECT + "callback_keys=['first-key-of-a']", RECEIVER_HOST="0.0.0.0"))


def test_a_slip_of_the_pen_is_told_with_what_may_have_been_meant():
    """Variables of others are none of our business."""
    [sentence] = unknown_names({"RECEIVER_MAXBODY": "1", "PATH": "/", "RECEIVER_MAX_BODY": "1KiB"})
    assert sentence == "RECEIVER_MAXBODY is not a setting; did you mean RECEIVER_MAX_BODY?"


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("RECEIVER_PORT", "PORT"),
        ("RECEIVER_REDIS_URL", "REDIS_URL"),
        ("RECEIVER_REDIS_URI", "REDIS_URL"),
        ("RECEIVER_HOTS", "RECEIVER_HOST"),
    ],
)
def test_settings_that_platforms_name_are_meant_by_their_names(slip, meant):
    """PORT and REDIS_URL have no prefix."""
    assert unknown_names({slip: "1"}) == [f"{slip} is not a setting; did you mean {meant}?"]


def test_every_setting_is_described_for_the_help():
    """One line each, with its default."""
    rows = described()
    assert len(rows) == sum(1 for field in dataclasses.fields(Settings) if field.metadata)
    for variable, _, text in rows:
        assert re.fullmatch(r"PORT|REDIS_URL|RECEIVER_[A-Z_]+", variable)
        assert text


def test_defaults_are_shown_as_one_would_write_them():
    """Each can be set to what is shown, and that changes nothing."""
    shown = {variable: default for variable, default, _ in described() if default}
    assert shown["RECEIVER_DEDUPE_WINDOW"] == "24h"
    assert shown["RECEIVER_MAX_BODY"] == "4MiB"
    assert shown["RECEIVER_ALLOW_OPEN"] == "0"
    assert read_settings(shown) == read_settings({})
    assert (read_settings({}).dedupe_window, read_settings({}).max_body) == (86400.0, 4 << 20)


def test_the_example_in_deploy_is_a_good_configuration(config):
    """With the secrets that it names."""
    text = (Path(__file__).parents[1] / "deploy" / "config" / "receiver.toml").read_text(encoding="utf-8")
    secrets = dict.fromkeys(re.findall(r"env:([A-Z_]+)", text), "a-random-one")
    assert secrets
    assert read_settings(config(text, RECEIVER_HOST="0.0.0.0", **secrets)).projects.default


@pytest.mark.parametrize(
    "secret", ["change me", "CHANGEME", "changeme123", "your-token-here", "<put the key here>", "TODO", "replace_me"]
)
@pytest.mark.parametrize(
    ("toml", "mend"),
    [
        ("callback_keys = ['{}']", "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"),
        ("[projects.p1.providers]\ntwilio.auth_tokens = ['{}']", "Write the one that the provider shows."),
    ],
)
def test_a_placeholder_is_no_secret(config, toml, mend, secret):
    """Not even at a provider: it is the value of an example, and the callbacks of anybody would be accepted."""
    found = problems(config("[projects.p1]\npublic_url = 'https://sms.example.com'\n" + toml.format(secret)))
    assert len(found) == 1
    assert found[0].endswith(f"[0]: is a placeholder, which anybody can guess. {mend}")


@pytest.mark.parametrize("secret", ["$SMS_KEY", "${SMS_KEY}"])
def test_a_variable_of_a_shell_is_no_secret(config, secret):
    """Nothing expands it in the file: everybody who has read the file would know the key."""
    found = problems(config(f"[projects.p1]\ncallback_keys = ['{secret}']"))
    assert [problem.partition("[0]: ")[2] for problem in found] == [
        f"is the text {secret} itself; write env:SMS_KEY for the variable."
    ]


@pytest.mark.parametrize(
    "url", ["/callbacks/twilio/p1", "/in/callbacks/kannel", "/sms/callback", "/sms/callback/p1", "/in?key=a"]
)
def test_a_callback_url_is_no_public_url(config, url):
    """Each signature over the URL would be wrong."""
    [found] = problems(config(f"[projects.p1]\npublic_url = 'https://sms.example.com{url}'"))
    assert "projects.p1.public_url is a callback URL; end it in front of /callbacks" in found
    path = read_settings(config("[projects.p1]\npublic_url = 'https://sms.example.com/callbacks/in/'"))
    assert path.projects["p1"].public_url == "https://sms.example.com/callbacks/in"


@pytest.mark.parametrize("secret", ["5f2b9c1d", "correct-horse-battery", "0123-key-of-2026", "exchange-of-old", "k"])
def test_a_secret_that_is_none_of_them_is_accepted(config, secret):
    """A few letters of a word of an example make no placeholder."""
    projects = read_settings(config(f"[projects.p1]\ncallback_keys = ['{secret}']")).projects
    assert projects["p1"].callback_keys == (secret,)
