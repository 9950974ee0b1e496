"""Projects (tenants): their credentials, allowed networks, routes and provider options."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final

from receiver.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ipaddress import IPv4Address, IPv6Address

    from receiver.partitions import Partitions
    from receiver.providers.base import Provider, ProviderOptions

DEFAULT_REGION: Final = "local"


class Network:
    """An IPv4 or IPv6 network, such as ``203.0.113.0/24``."""

    def __init__(self, network: IPv4Network | IPv6Network) -> None:
        self._network = network

    @classmethod
    def parse(cls, text: str) -> Network:
        """Parse a network or a single address. Raises ValueError with the fix."""
        try:
            return cls(ip_network(text))
        except ValueError as error:
            raise ValueError(f"{error}; write an address or a network such as 203.0.113.0/24.") from None

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        """Return whether an address is in the network. IPv4-mapped IPv6 addresses count as IPv4."""
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address) in self._network

    def __str__(self) -> str:
        """Return ``203.0.113.0/24``."""
        return str(self._network)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Project:
    """A tenant. Secrets are in plain text: never log a project."""

    id: str
    region: str = DEFAULT_REGION
    default: bool = False
    callback_keys: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    allowed_networks: tuple[Network, ...] = ()
    tokens: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    sign_id: str | None = None
    consumer_groups: tuple[str, ...] = ()
    routes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    partitions: Mapping[str, Partitions] = dataclasses.field(default_factory=dict)
    access_keys: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    users: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    public_url: str = ""
    providers: Mapping[str, ProviderOptions] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def own_sign_id(self) -> str:
        """The ``sign_id`` under which lookups find reports without one. Events never get it."""
        return self.sign_id or self.id

    @property
    def open(self) -> bool:
        """Whether callers need no credentials at all, because no secret is configured."""
        return not (self.tokens or self.access_keys or self.users) and self.open_to_callbacks

    @property
    def open_to_callbacks(self) -> bool:
        """Whether anyone may post callbacks: there is no key, and no provider with verified signatures."""
        return not self.callback_keys and not any(self.provider(name).signed for name in self.providers)

    @property
    def publishes_pending(self) -> bool:
        """Whether a provider's states that are not final become events: then the type SENT has a topic."""
        return any(options.pending and PROVIDERS[name].has_pending for name, options in self.providers.items())

    def provider(self, name: str, max_items: int = 10_000) -> Provider:
        """Return a provider with this project's options. Raises KeyError for an unknown name."""
        return PROVIDERS[name](
            self.providers.get(name), public_url=self.public_url, sign_id=self.sign_id, max_items=max_items
        )


@dataclasses.dataclass
class Projects:
    """All projects by id. Without a file there is one open project, ``default``.

    The parts of the service hold one object of this class, in which a reload replaces all projects at once.
    """

    by_id: Mapping[str, Project] = dataclasses.field(
        default_factory=lambda: {"default": Project(id="default", default=True)}
    )

    def replace(self, other: Projects) -> None:
        """Hold the projects of another object from now on."""
        self.by_id = other.by_id

    def __getitem__(self, project_id: str) -> Project:
        """Return a project. Raises KeyError."""
        return self.by_id[project_id]

    def get(self, project_id: str) -> Project | None:
        """Return a project, or None if there is no such project."""
        return self.by_id.get(project_id)

    def values(self) -> Iterator[Project]:
        """Iterate over the projects in the order of the file."""
        return iter(self.by_id.values())

    @property
    def any_open(self) -> bool:
        """Whether a project needs no credentials."""
        return any(project.open for project in self.values())

    @property
    def default(self) -> Project | None:
        """The project of ``POST /sms/callback``: the one marked as default, or the only one."""
        marked = [project for project in self.values() if project.default]
        if marked:
            return marked[0]
        return next(self.values()) if len(self.by_id) == 1 else None
