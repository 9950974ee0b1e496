"""The projects (tenants): whose callbacks are whose, who may post and look up, where events go."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final

from receiver.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ipaddress import IPv4Address, IPv6Address

    from receiver.providers.base import Provider, ProviderOptions

DEFAULT_REGION: Final = "local"


class Network:
    """An IPv4 or IPv6 network, such as ``203.0.113.0/24``."""

    def __init__(self, network: IPv4Network | IPv6Network) -> None:
        self._network = network

    @classmethod
    def parse(cls, text: str) -> Network:
        """Read a network or a single address. Raises ValueError with the mend."""
        try:
            return cls(ip_network(text))
        except ValueError as error:
            raise ValueError(f"{error}; write an address or a network such as 203.0.113.0/24.") from None

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        """Tell whether an address lies in the network; IPv4 in IPv6's clothes is seen for what it is."""
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address) in self._network

    def __str__(self) -> str:
        """Return ``203.0.113.0/24``."""
        return str(self._network)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Project:
    """A tenant. Secrets are plain text here: never log a project."""

    id: str
    region: str = DEFAULT_REGION
    default: bool = False
    callback_keys: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    allowed_networks: tuple[Network, ...] = ()
    tokens: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    sign_id: str | None = None
    consumer_groups: tuple[str, ...] = ()
    routes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    access_keys: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    users: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    public_url: str = ""
    providers: Mapping[str, ProviderOptions] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def own_sign_id(self) -> str:
        """What reports without a signature are found under: a query has to name one. Events are never given it."""
        return self.sign_id or self.id

    @property
    def open(self) -> bool:
        """True when nothing at all is asked of callers, because no secret of any kind is configured."""
        return not (self.tokens or self.access_keys or self.users) and self.open_to_callbacks

    @property
    def open_to_callbacks(self) -> bool:
        """True when anybody may post callbacks: there is neither a key nor a provider whose signature is verified."""
        return not self.callback_keys and not any(self.provider(name).signed for name in self.providers)

    def provider(self, name: str, max_items: int = 10_000) -> Provider:
        """Return a provider as this project uses it. Raises KeyError for an unknown name."""
        return PROVIDERS[name](
            self.providers.get(name), public_url=self.public_url, sign_id=self.sign_id, max_items=max_items
        )


@dataclasses.dataclass(frozen=True)
class Projects:
    """All projects by id. Without a file: one, ``default``, open."""

    by_id: Mapping[str, Project] = dataclasses.field(
        default_factory=lambda: {"default": Project(id="default", default=True)}
    )

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
    def default(self) -> Project | None:
        """Where ``POST /sms/callback`` goes: the project marked so, or the only one."""
        marked = [project for project in self.values() if project.default]
        if marked:
            return marked[0]
        return next(self.values()) if len(self.by_id) == 1 else None
