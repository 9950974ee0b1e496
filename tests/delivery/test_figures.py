"""The metrics of topics: rendered once a round, and gone with their topics."""

from __future__ import annotations

from receiver.streams.gauges import GroupFigures, TopicFigures, TopicGauges

TOPIC, OTHER = "urn:smn:local:p:one", "urn:smn:local:p:other"


def a_topic(entries: int) -> TopicFigures:
    """Return a topic with one group."""
    return TopicFigures(entries, {"billing": GroupFigures(None, 3, 1.5)})


def test_the_same_figures_are_rendered_once():
    """However often they are asked for between two rounds."""
    figures = TopicGauges()
    figures.topics = {TOPIC: a_topic(5)}
    rendered = figures.exposition({})
    assert figures.exposition({}) is rendered
    figures.topics = {TOPIC: a_topic(6)}
    assert figures.exposition({}) != rendered
    trimmed = figures.exposition({TOPIC: (7, 0)})
    assert f'receiver_trimmed_entries_total{{topic="{TOPIC}"}} 7.0' in trimmed.decode()


def test_counters_of_a_topic_are_there_before_anything_happens_and_go_with_it():
    """Also before the first round, when Redis is away; an alert would miss the first burst otherwise."""
    figures = TopicGauges()
    figures.routed = frozenset([TOPIC])
    assert f'receiver_unread_trimmed_total{{topic="{TOPIC}"}} 0.0' in figures.exposition({}).decode()
    figures.routed = frozenset([OTHER])
    assert TOPIC not in figures.exposition({TOPIC: (1, 1)}).decode()


def test_a_lag_that_redis_does_not_know_is_no_sample():
    """0 would be a lie."""
    figures = TopicGauges()
    figures.topics = {TOPIC: a_topic(5)}
    text = figures.exposition({}).decode()
    assert f'receiver_group_pending_entries{{group="billing",topic="{TOPIC}"}} 3.0' in text
    assert "receiver_group_lag_entries{" not in text
