"""Findings about callbacks: the URL to enter at each provider, and what is wrong with how it is protected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.cli.checking.findings import Finding, note, warning
from receiver.providers import DEFAULT
from receiver.providers.base import Provider
from receiver.providers.forms import KEY
from receiver.providers.notifications import NotificationProvider
from receiver.runtime.sockets import authority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.projects import Project
    from receiver.settings import Settings

#: The area of findings that show a URL.
URLS: Final = "callback url"
_HIDDEN_KEY: Final = f"{KEY}=***"
_HOW_THE_KEY: Final = "Write one of the callback_keys for ***, percent-encoded."


def callbacks(settings: Settings) -> Iterator[Finding]:
    """Show the callback URL of each provider that a project configures, of Tencent where it configures none."""
    for project in settings.projects.values():
        yield from _public_url(project)
        for name in project.providers or (DEFAULT.name,):
            provider = project.provider(name)
            yield _url(settings, project, provider)
            yield from _protection(project, provider)


def _url(settings: Settings, project: Project, provider: Provider) -> Finding:
    base = project.public_url or f"http://{authority(settings.host, settings.port)}"
    keyed = bool(project.callback_keys) and not provider.signed
    query = "&".join(part for part in (_HIDDEN_KEY if keyed else "", provider.url_query) if part)
    url = f"{base}/callbacks/{provider.name}/{project.id}{'?' if query else ''}{query}"
    how = [
        _HOW_THE_KEY if keyed else "",
        "It needs no key: callbacks are signed." if provider.signed else "",
        "" if project.public_url else "That is this machine; write the scheme and host that the provider reaches.",
        provider.url_advice,
    ]
    return note(URLS, f"{provider.title}, project {project.id}: {url}", " ".join(part for part in how if part))


def _public_url(project: Project) -> Iterator[Finding]:
    if project.public_url.startswith("http:"):
        yield warning(
            f"project {project.id}",
            f"public_url is {project.public_url}: phone numbers, texts and keys cross the network unencrypted.",
            "Write https://, with a proxy in front that has a certificate.",
        )


def _protection(project: Project, provider: Provider) -> Iterator[Finding]:
    area, table = f"project {project.id}", f"[projects.{project.id}.providers.{provider.name}]"
    if isinstance(provider, NotificationProvider):
        if not provider.options.allowed_topics:
            yield warning(
                area,
                f"Every callback of {provider.title} is refused: no topic is allowed.",
                f"List it in {table}: allowed_topics.",
            )
        return
    if provider.name in project.providers and not provider.signed and not project.callback_keys:
        became = (
            f"Anybody may post callbacks as {provider.title}"
            if project.open_to_callbacks
            else f"Every callback of {provider.title} is refused"
        )
        yield warning(
            area,
            f"{became}: the project has no callback_keys, and no secret with which {provider.title} signs.",
            "Give the project callback_keys" + (f", or {table} its secrets." if _can_sign(provider) else "."),
        )
    if provider.signs_url and not provider.signed and not project.public_url:
        yield warning(
            area,
            f"The signatures of {provider.title} are not checked, and cannot be: they cover the URL, and public_url is "
            "missing.",
            f"Give the project its public_url, https://sms.example.com, and {table} its secrets.",
        )


def _can_sign(provider: Provider) -> bool:
    """Tell whether a secret of this provider can take the place of a key."""
    return type(provider).signed is not Provider.signed
