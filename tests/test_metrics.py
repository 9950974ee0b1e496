"""What is counted, and that it can be seen from the beginning."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from receiver import errors, metrics
from receiver.bulk_histogram import BulkHistogram
from receiver.errors import (
    OUTCOMES,
    EmbeddedError,
    GatewayError,
    GatewayRateLimitedError,
    ReceiverError,
    SettingsError,
    SmnError,
)
from receiver.exposition import exposition
from receiver.peers import WorkerReport, WorkerState

#: What answers lookups, or nobody: the service does not start.
NOT_OF_CALLBACKS = {EmbeddedError, GatewayError, GatewayRateLimitedError, SettingsError, SmnError}


def test_each_error_that_can_answer_a_callback_is_an_outcome():
    """A new one that is forgotten would be born at 1, and its alert would miss it."""
    declared = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, ReceiverError)}
    assert set(OUTCOMES) == {"ok"} | {error.code for error in declared - NOT_OF_CALLBACKS}
    assert len(OUTCOMES) == len(set(OUTCOMES))


def test_each_metric_is_set_by_somebody():
    """One that is declared and never set reads 0 for ever, and so does its alert."""
    package = Path(metrics.__file__).parent
    sources = " ".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    declared = {name for name, one in vars(metrics).items() if _is_metric(one)}
    assert {"CALLBACKS", "ROUTE", "GROUP_LAG"} <= declared
    assert {name for name in declared if not re.search(rf"\bmetrics\.{name}\b|\b{name}[.(]", sources)} == set()


def _is_metric(declared):
    """Tell whether it is a metric, or makes one with a name from what is known when somebody asks."""
    return isinstance(declared, MetricWrapperBase | BulkHistogram) or (
        isinstance(declared, partial) and bool(declared.args)
    )


def test_what_all_workers_see_is_shown_once():
    """What ended workers have left on the disk, and the counts of the index: whichever workers there are.

    A reload replaces workers 1 and 2 by 3 and 4. One that drains a file just now counts it by itself.
    """
    own = {"pid": 1, "stopping": False, "route": "spool", "takes_writes": False, "spool_writable": True}
    spool = {"spool_events": 5, "spool_bytes": 50, "spool_free_bytes": 10**9}
    states = [
        WorkerState(
            worker=number, **own, **spool, unowned_events=left, unowned_bytes=left, index_entries={"applied": read}
        )
        for number, left, read in ((3, 7, 20), (4, 0, 19))
    ]
    shown = exposition([WorkerReport(state) for state in states]).decode()
    assert "\nreceiver_spool_events 17.0\n" in shown
    assert "\nreceiver_spool_bytes 107.0\n" in shown
    assert '\nreceiver_index_entries{outcome="applied"} 20.0\n' in shown
