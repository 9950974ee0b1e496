"""Where a simulated provider posts to, and what it signs with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from receiver.errors import ReceiverError
from receiver.providers import DEFAULT
from receiver.providers.telnyx import Telnyx
from receiver.runtime.sockets import authority
from receiver.simulator.private_keys import PrivateKey, make_key, public_key, read_key
from receiver.simulator.signers import signer_of

if TYPE_CHECKING:
    from pathlib import Path

    from receiver.projects import Project
    from receiver.settings import Settings
    from receiver.simulator.traffic import Signer


class Target(NamedTuple):
    """A callback URL, with its key, and what signs a request to it."""

    url: str
    signer: Signer | None = None


class KeyFile(NamedTuple):
    """The file of a provider's own private key, and the URL of its certificate."""

    path: Path | None = None
    certificate_url: str = ""


def own_url(settings: Settings, project: Project, name: str) -> str:
    """Return the callback URL of a provider on this machine. It has a key unless callbacks are signed."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 we bind to nothing
    default = name == DEFAULT.name and project is settings.projects.default
    path = "/sms/callback" if default else f"/callbacks/{name}/{project.id}"
    keyed = project.callback_keys and not project.provider(name).signed
    key = f"?key={quote(project.callback_keys[0], safe='')}" if keyed else ""
    return f"http://{authority(host, settings.port)}{path}{key}"


def signer_for(project: Project, name: str, key_file: KeyFile) -> Signer | None:
    """Return what signs for a project; None if it verifies nothing. Raises ReceiverError without a key for it."""
    provider = project.provider(name)
    if key_file.path is None:
        return signer_of(provider)
    making = name == Telnyx.name and not key_file.path.exists()
    key = make_key(key_file.path) if making else read_key(key_file.path)
    known: tuple[str, ...] = provider.options.public_keys if isinstance(provider, Telnyx) else ()
    if name == Telnyx.name and isinstance(key, Ed25519PrivateKey) and public_key(key) not in known:
        raise ReceiverError(
            f'the public key of {key_file.path} is not configured: write public_keys = ["{public_key(key)}"] in '
            f"[projects.{project.id}.providers.telnyx], reload the service (SIGHUP), and repeat this."
        )
    return signer_of(provider, PrivateKey(key, key_file.certificate_url))
