"""Fields that a provider sends and its schema does not know: each is logged once, and all are counted.

Their names come from requests, so metrics and logs name only what looks like the name of a field, and a bounded number
of them. The others count together: every sender can invent fields, or name one by a phone number.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from receiver import metrics
from receiver.metrics import OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.log import Logger

#: Names of one provider that metrics and logs name.
MAX_NAMES: Final = 100
#: Four digits in a row may be part of a phone number.
_NAME: Final = re.compile(r"(?!.*\d{4})[A-Za-z_][\w.\-]{0,63}", re.ASCII)


class NewFields:
    """Counts the unknown fields of all providers."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._unreported: list[tuple[str, str]] = []

    def count(self, provider: str, items: Mapping[str, int]) -> None:
        """Count items by the unknown field that they have."""
        for name, times in items.items():
            metrics.NEW_FIELDS.labels(provider, self._label(provider, name)).inc(times)

    def report(self) -> None:
        """Log each name once. Call it every second."""
        for provider, name in self._unreported:
            self._logger.warning("provider.new_field", provider=provider, field=name)
        self._unreported.clear()

    def _label(self, provider: str, name: str) -> str:
        names = self._names[provider]
        if name in names:
            return name
        if len(names) >= MAX_NAMES or not _NAME.fullmatch(name):
            return OTHER
        names.add(name)
        self._unreported.append((provider, name))
        return name
