"""Who calls us. A provider is one file and one line in ``PROVIDERS``; see ``base`` for what it has to offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.providers.tencent import Tencent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.providers.base import Provider

#: By the name that stands in ``POST /callbacks/{provider}/{project_id}``.
PROVIDERS: Final[Mapping[str, Provider]] = {provider.name: provider for provider in (Tencent(),)}
