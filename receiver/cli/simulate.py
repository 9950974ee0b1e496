"""``receiver simulate``: be a provider."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click
from yarl import URL

from receiver.cli.connections import run
from receiver.cli.environment import Environment, with_environment
from receiver.cli.options import chosen_project, json_option
from receiver.cli.output import echo_json
from receiver.cli.simulate_view import print_summary, show_progress, summary
from receiver.errors import ReceiverError
from receiver.providers import DEFAULT, PROVIDERS
from receiver.simulator.behaviour import BEHAVIOURS
from receiver.simulator.sender import CallbackSender, RunStats, SendPlan
from receiver.simulator.signers import SIGNED
from receiver.simulator.styles import STYLES, traffic_of
from receiver.simulator.target import KeyFile, Target, own_url, signer_for
from receiver.simulator.traffic import Shares
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from receiver.simulator.traffic import Traffic

_SHARE: Final = click.FloatRange(0, 1)


class _Url(click.ParamType[str]):
    """A URL that can be posted to."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 click's
        """Return it as it goes over the wire."""
        text = str(value)
        try:
            url = urlsplit(text)
            good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            good = False
        if not good:
            self.fail("not a URL of a receiver; write http://127.0.0.1:8080/sms/callback?key=…", param, ctx)
        return str(URL(text).with_fragment(None))


@click.command(
    epilog="\b\nExamples:\n"
    "  receiver simulate                               1,000 callbacks, 200 a second\n"
    "  receiver simulate --rate 0 --batch 100          no pauses, 100 reports each\n"
    "  receiver simulate --count 0 --invalid-share .1  every tenth item wrong\n"
    "  receiver simulate --seed 7                      twice: the second adds nothing\n"
    "\n\b\nOther providers, with the secrets in the file that RECEIVER_CONFIG names:\n"
    "  receiver simulate --provider aliyun        batches, not signed: a key in the URL\n"
    "  receiver simulate --provider twilio        one report each, signed with auth_tokens\n"
    "  receiver simulate --provider kannel        everything in the query of a GET\n"
    "  receiver simulate --provider yunpian --retries 1    one retry instead of three\n"
    "  receiver simulate --provider telnyx --private-key telnyx.pem\n"
    "  receiver simulate --provider amazon-sns --unsigned  see it refused\n"
    "\nTelnyx signs with a private key of its own: a new one is written to the file, and its public key is shown, to "
    "be configured as one of public_keys. amazon-sns and huawei-smn sign with certificates on their own hosts, so "
    "nobody else can. With --private-key and --certificate-url they are simulated against a service that fetches "
    "certificates, through RECEIVER_FETCH_PROXY, from an authority of yours that it trusts (SSL_CERT_FILE)."
)
@click.option(
    "--provider",
    "name",
    type=click.Choice([*STYLES]),
    metavar="NAME",
    default=DEFAULT.name,
    show_default=True,
    help=f"The provider to simulate: {', '.join(STYLES)}.",
)
@click.option("--project", "wanted", metavar="ID", help="The project to post to. [default: the default one]")
@click.option("--url", type=_Url(), metavar="URL", help="Where to post. [default: the service of this environment]")
@click.option(
    "--count", type=click.IntRange(0), metavar="N", default=1000, show_default=True, help="Callbacks; 0: until Ctrl-C."
)
@click.option(
    "--rate",
    type=click.FloatRange(0),
    metavar="N",
    default=200,
    show_default=True,
    help="Callbacks a second; 0: no limit.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    default=10,
    show_default=True,
    help="Reports in a callback, where there can be several.",
)
@click.option(
    "--fail-share",
    type=_SHARE,
    metavar="SHARE",
    default=0.1,
    show_default=True,
    help="Reports of messages that failed.",
)
@click.option(
    "--reply-share", type=_SHARE, metavar="SHARE", default=0.05, show_default=True, help="Callbacks that are a reply."
)
@click.option(
    "--pending-share",
    type=_SHARE,
    metavar="SHARE",
    default=0.1,
    show_default=True,
    help="Reports of states that are not final, where there are such.",
)
@click.option(
    "--invalid-share", type=_SHARE, metavar="SHARE", default=0, show_default=True, help="Items that break the schema."
)
@click.option(
    "--duplicate-share",
    type=_SHARE,
    metavar="SHARE",
    default=0,
    show_default=True,
    help="Acknowledged callbacks sent once more.",
)
@click.option(
    "--concurrency", type=click.IntRange(1), metavar="N", default=50, show_default=True, help="Requests at a time."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.01),
    metavar="SECONDS",
    help="Seconds to wait for an answer. [default: as long as the provider does, or 5]",
)
@click.option(
    "--retry-pause",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=1,
    show_default=True,
    help="Seconds before the first retry; the provider's own pauses are minutes to hours, and keep their proportion.",
)
@click.option("--retries", type=click.IntRange(0), metavar="N", help="At most this many. [default: the provider's]")
@click.option("--unsigned", is_flag=True, help="Do not sign.")
@click.option(
    "--private-key",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The private key of telnyx, amazon-sns or huawei-smn, in PEM.",
)
@click.option("--certificate-url", metavar="URL", default="", help="Where the certificate of that key is.")
@click.option("--seed", type=int, metavar="N", help="Send the same items whenever this number is given.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the message ids of acknowledged reports.",
)
@json_option
@with_environment
def simulate(  # noqa: PLR0913 a parameter for each option
    environment: Environment,
    *,
    name: str,
    wanted: str | None,
    url: str | None,
    count: int,
    rate: float,
    batch: int,
    fail_share: float,
    reply_share: float,
    pending_share: float,
    invalid_share: float,
    duplicate_share: float,
    concurrency: int,
    timeout: float | None,
    retry_pause: float,
    retries: int | None,
    unsigned: bool,
    private_key: Path | None,
    certificate_url: str,
    seed: int | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """Post callbacks as a provider does: in its form, signed with its secrets, and again if they are refused.

    Tencent's status reports come in batches, replies one by one. A callback is acknowledged by HTTP 2xx with
    "result": 0. What is not is sent again, twice, and then given up; then the exit code is 1. Others want other
    answers, and send again more often or not at all.
    """
    behaviour = BEHAVIOURS[name]
    key_file = None if unsigned else KeyFile(private_key, certificate_url)
    target = _target(environment, name, wanted, url, key_file)
    plan = SendPlan(
        target.url,
        count,
        rate,
        concurrency,
        timeout or behaviour.timeout,
        retry_pause,
        duplicate_share,
        behaviour.at_most(retries),
        target.signer,
    )
    shares = Shares(fail_share, reply_share, invalid_share, pending_share)
    traffic = traffic_of(PROVIDERS[name], batch, shares, seed)
    with ExitStack() as files:
        stats = run(_simulate(plan, traffic, _recorder(record, files)))
    if as_json:
        echo_json(summary(plan.url, stats))
    else:
        print_summary(plan.url, stats)
    if stats.given_up:
        sys.exit(1)


def _target(
    environment: Environment, name: str, wanted: str | None, url: str | None, key_file: KeyFile | None
) -> Target:
    """Return where to post, and what signs; without ``key_file`` nothing does."""
    if url is not None and (key_file is None or name not in SIGNED):
        return Target(url)
    settings = environment.settings(secrets=True)
    project = chosen_project(settings.projects, wanted)
    signer = None if key_file is None else signer_for(project, name, key_file)
    return Target(url or own_url(settings, project, name), signer)


def _recorder(path: Path | None, files: ExitStack) -> Callable[[Sequence[str]], None]:
    if path is None:
        return lambda _ids: None
    try:
        file = files.enter_context(path.open("w", encoding="utf-8"))
    except OSError as error:
        raise ReceiverError(f"cannot write {path}: {error.strerror}; give --record another file.") from None

    def write(ids: Sequence[str]) -> None:
        try:
            file.writelines(f"{one}\n" for one in ids)
            file.flush()  # a checker may read while we run, or after we were killed
        except OSError as error:
            with suppress(OSError):  # closing writes what is left, and would fail again later
                file.close()
            raise ReceiverError(f"cannot write {path}: {error.strerror}; free some disk, and run it again.") from None

    return write


async def _simulate(plan: SendPlan, traffic: Traffic, record: Callable[[Sequence[str]], None]) -> RunStats:
    sender = CallbackSender(plan, traffic, record)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, sender.stop)
    loop.add_signal_handler(signal.SIGTERM, sender.stop)
    showing = asyncio.create_task(show_progress(plan.callbacks, sender.stats))
    try:
        return await sender.run()
    finally:
        await cancel_and_wait(showing)
