"""What the documents say of commands, settings, metrics, files and providers is what the code says.

Where a table lacks a row, the failure prints the rows that belong there.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import json
import re
import shlex
import sys
import tomllib
from datetime import datetime
from functools import cache
from pathlib import Path

import click
import pytest
from multidict import CIMultiDict

from receiver.cli import receiver
from receiver.environment import ENV_FILE
from receiver.errors import BadSignatureError
from receiver.events import EventType
from receiver.projects import Project
from receiver.providers import PROVIDERS
from receiver.providers.base import CallbackRequest, Provider, ProviderOptions
from receiver.providers.options import load_options
from receiver.settings import described, read_settings

ROOT = Path(__file__).parents[1]
PAYLOADS = ROOT / "tests" / "payloads"
README, DEPLOY, CODE = "README.md", "deploy/README.md", "receiver/README.md"
CONFIGURATION, OF_PROVIDERS, CONSUME = "deploy/configuration.md", "deploy/providers.md", "deploy/consume.md"
RUNBOOK = "deploy/RUNBOOK.md"
DOCUMENTS = (
    README,
    DEPLOY,
    CONFIGURATION,
    OF_PROVIDERS,
    CONSUME,
    "deploy/lookups.md",
    "deploy/production.md",
    "deploy/kubernetes.md",
    "deploy/maintenance.md",
    "deploy/scale.md",
    "deploy/consumers/README.md",
    RUNBOOK,
    CODE,
    "tests/README.md",
    "CHANGELOG.md",
    ".github/CONTRIBUTING.md",
    ".github/SECURITY.md",
)
#: The provider of the guide, which is in no release.
GUIDE = {"receiver/providers/acme.py", "tests/payloads/acme/samples.json"}
#: Files that the pages make.
MADE = {"deploy/kubernetes/production/secrets.env"}
#: Dotted words in code that are neither log events nor files.
OTHERS = re.compile(r"(?:expect|self|request)\.\w+")
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
every_document = pytest.mark.parametrize("name", DOCUMENTS)


def text(name):
    """Return a document. What the changelog lists as removed is not there any more."""
    content = (ROOT / name).read_text(encoding="utf-8")
    return content.partition("### Removed")[0] if name == "CHANGELOG.md" else content


def fenced(name, *languages):
    """Return the fenced blocks in these languages."""
    return [block for language, block in FENCED.findall(text(name)) if language in languages]


def spans(name):
    """Return the code that stands in sentences and tables."""
    return re.findall(r"`([^`\n]+)`", FENCED.sub("", text(name)))


def shell(name):
    """Return the code that may be for a shell."""
    return [*spans(name), *(line for block in fenced(name, "sh", "console") for line in block.splitlines())]


def rows(name, head):
    """Return the lines of the table whose first line begins so."""
    lines = text(name).partition(f"\n{head}")[2].split("\n")[2:]
    return lines[: next(at for at, line in enumerate(lines) if not line.startswith("|"))]


def cells(row):
    """Return what is in the cells of a row."""
    return [cell.strip() for cell in row.removeprefix("|").removesuffix("|").split("|")]


def require_rows(name, head, expected):
    """Assert that a table has these rows, in this order."""
    assert rows(name, head) == expected, f"{name} has to have below {head!r}:\n" + "\n".join(expected)


def constants(path):
    """Yield every text that stands in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_document_is_checked():
    found = {
        str(path.relative_to(ROOT))
        for path in (*ROOT.glob("*.md"), *ROOT.glob("[a-z.]*/*.md"), *ROOT.glob("deploy/*/*.md"))
    }
    assert {name for name in found if not name.startswith((".venv", "data"))} == set(DOCUMENTS)


@pytest.mark.parametrize("extras", ["embedded", "embedded,test"])
def test_the_two_commands_of_the_readme_run_the_service_and_the_tests(extras):
    """People and programs copy them: they stay word for word."""
    run = ".venv/bin/pytest" if "test" in extras else ".venv/bin/receiver serve"
    command = f"python3 -m venv .venv && .venv/bin/pip install -q -e '.[{extras}]' && {run}\n"
    assert command in fenced(README, "sh")


def test_the_consumer_of_the_guide_is_a_part_of_the_program_that_is_tested():
    [excerpt] = fenced(CONSUME, "python")
    assert f"\n\n{excerpt}\n" in (ROOT / "deploy" / "consumers" / "redis_consumer.py").read_text(encoding="utf-8")


# Links and files


def anchors(path):
    """Return the anchors of the headings of a page, as GitHub makes them."""
    lines = FENCED.sub("", path.read_text(encoding="utf-8")).splitlines()
    titles = (line.lstrip("#").strip().lower() for line in lines if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@every_document
def test_links_lead_to_files_and_headings_that_exist(name):
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text(name)))
    broken = []
    for link in links:
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert broken == []


@every_document
def test_every_file_that_a_document_names_exists(name):
    words = (word.strip("`,;:()'\"").rstrip(".") for piece in shell(name) for word in piece.split())
    named = {word for word in words if word.startswith(("tests/", "receiver/", "deploy/", ".ci/", ".github/"))}
    assert {word for word in named - GUIDE - MADE if not (ROOT / word).exists()} == set()


# Commands


def commands(name):
    """Yield the words behind ``receiver`` of each command."""
    for piece in shell(name):
        for found in re.findall(r"(?<![\w./-])(?:\.venv/bin/)?receiver (-?[a-z][^|)&;`]*)", piece):
            yield shlex.split(found)


def unknown_in(words):
    """Return what the command line does not know of a command."""
    command = receiver
    for at, word in enumerate(words):
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        command = command.get_command(click.Context(command), word)
        if command is None:
            return words[: at + 1]
    known = {option for param in command.params for option in param.opts} | {"--help"}
    return [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]


@every_document
def test_every_command_exists_with_its_options(name):
    assert [words for words in commands(name) if unknown_in(words)] == []


def test_commands_are_found_and_wrong_ones_are_noticed():
    """A test of the test above."""
    assert ["quarantine", "list"] in list(commands(DEPLOY))
    assert unknown_in(["simulate", "--count", "200"]) == []
    assert unknown_in(["simulate", "--many"]) == ["--many"]
    assert unknown_in(["quarantine", "burn"]) == ["quarantine", "burn"]


def test_lists_of_subcommands_are_complete_words():
    """``receiver spool status``, ``drain``, ``export``."""
    found = re.findall(r"`receiver (\w+) \w+`((?:, `\w+`)+)", text(DEPLOY))
    assert {group for group, _ in found} == {"quarantine", "spool"}
    for group, more in found:
        for word in re.findall(r"\w+", more):
            assert not unknown_in([group, word])


@every_document
def test_programs_that_documents_run_have_the_options_named(name):
    for piece in shell(name):
        for path, arguments in re.findall(r"python (tests/[\w/]+\.py)([^`&|]*)", piece):
            source = (ROOT / path).read_text(encoding="utf-8")
            assert [word for word in arguments.split() if word.startswith("-") and f'"{word}"' not in source] == []


# Settings, metrics and log events


def test_every_setting_stands_in_its_table_with_meaning_and_default():
    expected = [
        f"| `{name}` | {meaning} | {f'`{default}`' if default else ''} |" for name, default, meaning in described()
    ]
    require_rows(CONFIGURATION, "| variable | meaning |", expected)


@every_document
def test_every_variable_that_a_document_names_is_a_setting(name):
    known = {variable for variable, _, _ in described()} | {ENV_FILE}
    assert set(re.findall(r"\bRECEIVER_[A-Z_]+\b", text(name))) <= known


def test_every_key_of_a_project_stands_in_its_table():
    names = {field.name for field in dataclasses.fields(Project)} - {"id"}
    assert {cells(row)[0].strip("`") for row in rows(CONFIGURATION, "| key of a project |")} == names


def test_the_example_of_the_configuration_is_valid(tmp_path):
    example = "\n".join(fenced(CONFIGURATION, "toml"))
    for name in re.findall(r"/run/secrets/([\w-]+)", example):
        (tmp_path / name).write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", encoding="utf-8")
    config = tmp_path / "receiver.toml"
    config.write_text(example.replace("/run/secrets", str(tmp_path)), encoding="utf-8")
    environ = dict.fromkeys(re.findall(r'"env:(\w+)"', example), "0123456789abcdef")
    settings = read_settings({**environ, "RECEIVER_CONFIG": str(config), "RECEIVER_HOST": "0.0.0.0"})
    assert set(settings.projects.default.providers) == {"twilio", "telnyx"}


@cache
def metric_names():
    """Return the names of our metrics, and of their samples."""
    names = {word for word in constants(ROOT / "receiver" / "metrics.py") if re.fullmatch(r"receiver_[a-z_]+", word)}
    return names | {f"{name}_{suffix}" for name in names for suffix in ("total", "bucket", "sum", "count")}


@every_document
def test_every_metric_that_a_document_names_exists(name):
    assert set(re.findall(r"\breceiver_[a-z_]+\b", text(name))) <= metric_names()


@cache
def log_events():
    """Return every dotted text in the source: log events, and a few others."""
    paths = (ROOT / "receiver").rglob("*.py")
    return {word for path in paths for word in constants(path) if re.fullmatch(r"[a-z_]+\.[a-z_]+", word)}


@every_document
def test_every_log_event_that_a_document_names_exists(name):
    dotted = {span for span in spans(name) if re.fullmatch(r"[a-z_]+\.[a-z_]+", span) and not OTHERS.fullmatch(span)}
    files = {span for span in dotted if span.endswith((".py", ".md", ".toml", ".json", ".yaml", ".lua", ".env"))}
    assert dotted - files <= log_events()


# Providers


def outcomes(name):
    """Return the types of the events that come of a provider's samples."""
    folder = PAYLOADS / name
    if (folder / "samples.json").exists():
        samples = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        return {event["type"] for sample in samples for event in sample["expect"]["events"]}
    expected = (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.expected.json"))
    return {event["type"] for each in expected for event in each["events"]}


def test_the_table_of_providers_has_each_with_what_its_class_says():
    table = [cells(row) for row in rows(README, "| provider | name |")]
    assert [row[1].strip("`") for row in table] == list(PROVIDERS)
    for row, provider in zip(table, PROVIDERS.values(), strict=True):
        title, _, reports, replies, signature, to_know = row
        assert title == provider.title + (" †" if provider.drops_on_4xx else "")
        assert reports == ("final, pending" if provider.has_pending else "final")
        types = outcomes(provider.name)
        assert {EventType.SUCCESS, EventType.FAIL} <= types
        assert (replies in {"yes", "in parts"}) == (EventType.REPLY in types)
        assert (signature == "none") == (provider.verify is Provider.verify)
        assert ("URL" in signature) == provider.signs_url
        named = {word for span in re.findall(r"`([^`]+)`", to_know) for word in re.findall(r"\w*[a-z]_[a-z]\w*", span)}
        assert named <= set(re.findall(r"\w+", source_of(provider)))


def source_of(provider):
    """Return the sources of a provider's class and of those that it is made of."""
    files = {sys.modules[each.__module__].__file__ for each in provider.__mro__ if each is not object}
    return "".join(Path(each).read_text(encoding="utf-8") for each in files)


def test_the_ack_of_each_provider_stands_in_its_table():
    expected = []
    for name, provider in PROVIDERS.items():
        assert provider.ack.status == 200
        body = provider.ack.body.decode()
        expected.append(f"| `{name}` | {', '.join(sorted(provider.methods))} | {f'`{body}`' if body else 'empty'} |")
    require_rows(OF_PROVIDERS, "| name | method |", expected)


def written(default):
    """Return the default of an option, as people write it."""
    if default is None or default == ():
        return ""
    if isinstance(default, tuple):
        return ", ".join(f"`{one}`" for one in default)
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, int | float):
        return f"`{default / 60:g}m`" if default % 60 == 0 else f"`{default:g}s`"
    return f"`{default}`"


def test_every_option_of_a_provider_stands_in_its_table_with_meaning_and_default():
    [pending] = [field for field in dataclasses.fields(ProviderOptions) if field.name == "pending"]
    providers = ", ".join(f"`{name}`" for name, provider in PROVIDERS.items() if provider.has_pending)
    named = [(providers, pending)]
    for name, provider in PROVIDERS.items():
        named += [
            (f"`{name}`", field) for field in dataclasses.fields(provider.options_type) if field.name != "pending"
        ]
    expected = [
        f"| {who} | `{field.name}` | {field.metadata['help']} | {written(field.default)} |" for who, field in named
    ]
    require_rows(OF_PROVIDERS, "| provider | option |", expected)


# The architecture, and the guide


def test_the_layers_are_those_that_import_linter_holds():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    expected = [re.findall(r"receiver\.(\w+)", layer) for layer in layers]
    assert [re.findall(r"`(\w+)`", cells(row)[0]) for row in rows(CODE, "| layer, the highest first |")] == expected


def test_what_the_description_of_the_code_names_is_there():
    """Classes with a member, ``Delivery.store``, and names with an underscore, ``parse_fast``."""
    paths = [*(ROOT / "receiver").rglob("*.py"), ROOT / "tests" / "providers" / "test_samples.py"]
    sources = [path.read_text(encoding="utf-8") for path in paths]
    known = {path.stem for path in paths} | set(re.findall(r"\w+", " ".join(sources)))
    named = {span for span in spans(CODE) if re.fullmatch(r"[A-Z]\w+\.\w+|[a-z]+(_[a-z0-9]+)+", span)}
    members = {span for span in named if "." in span}
    assert {"Delivery.store", "parse_fast"} <= named
    assert named - members <= known
    for name in members:
        of, _, member = name.partition(".")
        assert any(re.search(rf"\nclass {of}\b.*\n    (async )?def {member}\(", one, re.DOTALL) for one in sources), (
            name
        )


def test_what_a_provider_may_override_is_a_member_of_its_base_class():
    for row in rows(CODE, "| class | for | gives | override |"):
        base, *_, override = cells(row)
        [name, path] = re.search(r"`(\w+)` \(\[.*\]\((.*)\)\)", base).groups()
        module = importlib.import_module(f"receiver.{path.removesuffix('.py').replace('/', '.')}")
        members = {
            member for each in getattr(module, name).__mro__ for member in (*vars(each), *inspect.get_annotations(each))
        }
        words = {re.match(r"\w+", span)[0] for span in re.findall(r"`([^`]+)`", override)}
        assert words <= members | set(vars(module)), name


@pytest.fixture
def acme(tmp_path):
    """Return the class that the guide writes."""
    path = tmp_path / "acme.py"
    path.write_text("".join(fenced(CODE, "python")), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("acme", path)
    module = sys.modules["acme"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.Acme
    del sys.modules["acme"]


def test_the_provider_of_the_guide_works_as_it_stands_there(acme):
    """Its sample is verified and parsed as expected; the same with a byte changed is refused."""
    [block] = fenced(CODE, "json")
    [sample] = json.loads(block)
    expected = sample["expect"]
    provider = acme(load_options(acme, sample["options"], {}))
    now = datetime.fromisoformat(sample["now"]).timestamp()

    def request(body):
        return CallbackRequest(sample["method"], sample["path_query"], CIMultiDict(sample["headers"]), body.encode())

    provider.verify(request(sample["body"]), now)
    parsed = provider.parse(request(sample["body"]))
    assert (provider.ack.status, provider.ack.body.decode()) == (expected["status"], expected["ack_body"])
    assert (parsed.pending, parsed.path) == (expected["pending"], expected["path"])
    events = [json.loads(event.data) for event in parsed.events]
    assert [{"type": event.pop("event_type"), **event} for event in events] == expected["events"]
    with pytest.raises(BadSignatureError):
        provider.verify(request(sample["body"].replace("m-1", "m-3")), now)
