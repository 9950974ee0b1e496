"""(project, event type) → topic URN."""

from __future__ import annotations

import pytest

from receiver.events import EventType
from receiver.projects import Project
from receiver.providers.base import ProviderOptions
from receiver.providers.sinch import SinchOptions
from receiver.routing import Routing, topic_problem

OWN = "urn:smn:eu-1:p1:replies"


@pytest.fixture
def routing():
    """Return the routes of two projects, the first with one of its own."""
    return Routing([Project(id="p1", region="eu-1", routes={"sms_reply_event": OWN}), Project(id="p2")])


@pytest.fixture
def pending():
    """Return the routes of a project that asks a provider for states that are not final."""
    return Routing([Project(id="p1", providers={"sinch": SinchOptions(pending=True)})])


def test_a_type_goes_where_the_configuration_says_and_else_to_its_default(routing):
    """Rejected events always go to the quarantine."""
    assert routing["p1"].table == {
        EventType.SUCCESS: "urn:smn:eu-1:p1:sms_success",
        EventType.FAIL: "urn:smn:eu-1:p1:sms_fail",
        EventType.REPLY: OWN,
        EventType.SENT: "urn:smn:eu-1:p1:sms_sent",
        EventType.REJECTED: "urn:smn:eu-1:p1:quarantine",
    }
    assert set(routing["p1"].table) == set(EventType), "an event of a type without a topic could not be stored"


def test_states_that_are_not_final_have_a_topic_only_where_they_are_published(routing, pending):
    """Everywhere else there is nothing to look after, and SMN's clients see the three types that they know."""
    sent = "urn:smn:local:p1:sms_sent"
    assert EventType.SENT not in routing["p1"].routed()
    assert "urn:smn:eu-1:p1:sms_sent" not in routing.routed_topics()
    assert pending["p1"].routed()[EventType.SENT] == sent
    assert sent in pending.routed_topics()
    assert sent in pending.event_topics()
    assert pending.topics({"p1": ("billing",)})[sent] == ("billing",)
    pending["p1"].override({EventType.SENT: "urn:smn:local:p1:under-way"})
    assert pending["p1"].origin(EventType.SENT) == "run time"
    assert "urn:smn:local:p1:under-way" in pending.event_topics()


@pytest.mark.parametrize(
    ("providers", "published"),
    [
        ({}, False),
        ({"sinch": SinchOptions()}, False),
        ({"sinch": SinchOptions(), "telnyx": SinchOptions(pending=True)}, True),
        ({"tencent": ProviderOptions(pending=True)}, False),  # has no such states
    ],
)
def test_a_project_publishes_what_one_of_its_providers_is_asked_for(providers, published):
    """One is enough."""
    assert Project(id="p1", providers=providers).publishes_pending is published


def test_a_route_of_run_time_lies_over_the_others_until_it_is_taken_away(routing):
    """And each route tells where it comes from."""
    routes = routing["p1"]
    routes.override({EventType.SUCCESS: "urn:smn:eu-1:p1:new"})
    assert routes.routed()[EventType.SUCCESS] == "urn:smn:eu-1:p1:new"
    assert [routes.origin(kind) for kind in routes.routed()] == ["run time", "default", "configuration"]
    routes.override({})
    assert routes.routed()[EventType.SUCCESS] == "urn:smn:eu-1:p1:sms_success"


def test_a_route_of_one_project_is_none_of_another(routing):
    """Nor is there a project that is not configured."""
    routing["p1"].override({EventType.REPLY: "urn:smn:eu-1:p1:new"})
    assert routing["p2"].table[EventType.REPLY] == "urn:smn:local:p2:sms_reply"
    with pytest.raises(KeyError):
        routing["p3"]


def test_every_topic_is_told_with_the_groups_that_it_must_have(routing):
    """Each once, also when two types go to one topic. A quarantine has no groups of consumers."""
    routing["p2"].override({EventType.FAIL: "urn:smn:local:p2:sms_success"})
    groups = ("billing", "crm")
    assert routing.topics({"p1": groups}) == {
        "urn:smn:eu-1:p1:sms_success": groups,
        "urn:smn:eu-1:p1:sms_fail": groups,
        OWN: groups,
        "urn:smn:eu-1:p1:quarantine": (),
        "urn:smn:local:p2:sms_success": (),
        "urn:smn:local:p2:sms_reply": (),
        "urn:smn:local:p2:quarantine": (),
    }


def test_topics_of_events_are_those_of_today_and_of_before(routing):
    """Each once, and no quarantine: what is there is no event of a message."""
    routing["p2"].override({EventType.FAIL: "urn:smn:local:p2:sms_success"})
    routing["p2"].former = frozenset({"urn:smn:local:p2:sms_fail", "urn:smn:local:p2:sms_success"})
    assert sorted(routing.event_topics()) == [
        OWN,
        "urn:smn:eu-1:p1:sms_fail",
        "urn:smn:eu-1:p1:sms_success",
        "urn:smn:local:p2:sms_fail",
        "urn:smn:local:p2:sms_reply",
        "urn:smn:local:p2:sms_success",
    ]


@pytest.mark.parametrize("urn", [OWN, "urn:smn:x:p1:" + "a" * 255, "urn:smn:x:p1:9_-"])
def test_a_topic_of_the_project_is_a_route(urn):
    """Of any region."""
    assert topic_problem(urn, "p1") is None


@pytest.mark.parametrize(
    ("urn", "problem"),
    [
        ("", "not a topic URN"),
        ("replies", "not a topic URN"),
        ("urn:smn:x:p1:" + "a" * 256, "not a topic URN"),
        ("urn:smn:x:p1:-a", "not a topic URN"),
        ("urn:smn:x:p1:a\n", "not a topic URN"),
        ("urn:smn:x:p1:{a}", "not a topic URN"),  # braces would change the cluster's slot
        ("URN:smn:x:p1:a", "not a topic URN"),
        ("urn:smn:x:p2:a", "stays in its own project, p1"),
        ("urn:smn:x:p1:quarantine", "is the quarantine"),
    ],
)
def test_what_is_no_route_is_told_why(urn, problem):
    """The grammar, other projects, the quarantine."""
    assert problem in topic_problem(urn, "p1")
