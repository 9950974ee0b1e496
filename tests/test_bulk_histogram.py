"""The histogram that takes many values at once says the same as prometheus-client's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from receiver.bulk_histogram import BulkHistogram

BUCKETS = (0.0005, 0.1, 1.0, 300)
AMOUNTS = st.lists(st.sampled_from([0.0, 0.0005, 0.05, 0.1, 0.2, 1.0, 300.0, 301.0]))


@given(AMOUNTS, AMOUNTS)
def test_it_renders_as_the_original_does(first: list[float], second: list[float]) -> None:
    """Bounds belong to their buckets."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = BulkHistogram("seconds", "Seconds.", "provider", BUCKETS, ours)
    original = Histogram("seconds", "Seconds.", ["provider"], buckets=BUCKETS, registry=theirs)
    histogram.create("tencent")
    series = original.labels("tencent")
    histogram.observe("tencent", first)
    histogram.observe("tencent", second)
    for amount in (*first, *second):
        series.observe(amount)
    assert _rounded(generate_latest(ours)) == _rounded(generate_latest(theirs))


def _rounded(exposition: bytes) -> list[str]:
    """Return the lines; sums of floats depend on their order."""
    return [
        f"{name} {float(value):.6f}" if name.startswith("seconds_") else line
        for line in exposition.decode().splitlines()
        for name, _, value in [line.rpartition(" ")]
    ]
