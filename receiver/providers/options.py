"""Options of providers: the schema of ``[projects.ID.providers.NAME]``, generated from the dataclass."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from marshmallow import Schema

from receiver.setting_fields import secrets_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marshmallow import fields

    from receiver.providers.base import Provider, ProviderOptions


def option_fields(provider: type[Provider]) -> dict[str, fields.Field[Any]]:
    """Return the fields of a provider's options, all optional. ``pending`` is only there if it has an effect."""
    return {
        field.name: field.metadata["field"]
        for field in dataclasses.fields(provider.options_type)
        if field.name != "pending" or provider.has_pending
    }


def options_of(provider: type[Provider], loaded: Mapping[str, Any]) -> ProviderOptions:
    """Return loaded values as options. Lists become tuples."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in loaded.items()
    }
    return provider.options_type(**values)


def load_options(provider: type[Provider], table: Mapping[str, Any], environment: Mapping[str, str]) -> ProviderOptions:
    """Load the options of a provider from a TOML table. Raises marshmallow.ValidationError."""
    with secrets_from(environment):
        loaded: Any = Schema.from_dict(option_fields(provider))().load(table)
    return options_of(provider, loaded)
