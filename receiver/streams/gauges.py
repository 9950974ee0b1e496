"""Gauges about things that come and go: what was not seen in this round is gone, and so is its figure.

A group that was destroyed would be reported as it last was, and alarmed on, for as long as the process lives.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Gauge


class TopicGauges:
    """The gauges of one round after the other."""

    def __init__(self) -> None:
        """Begin with none."""
        self._seen: set[tuple[Gauge, tuple[str, ...]]] = set()
        self._before: set[tuple[Gauge, tuple[str, ...]]] = set()

    def set(self, gauge: Gauge, labels: tuple[str, ...], value: float) -> None:
        """Report a figure in this round."""
        gauge.labels(*labels).set(value)
        self._seen.add((gauge, labels))

    def end_round(self) -> None:
        """Take away the gauges of the round before that were not reported in this one."""
        for gauge, labels in self._before - self._seen:
            if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # its files know no removal: 0 is nothing to be alarmed on
                gauge.labels(*labels).set(0)
            else:
                gauge.remove(*labels)
        self._before, self._seen = self._seen, set()
