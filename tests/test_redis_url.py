"""The forms of REDIS_URL: what they lead to, and that none shows a password. test_settings.py has what is refused."""

from __future__ import annotations

import pytest

from receiver.redis_url import Kind, parse_redis_url, shown

TLS = {"ssl": True, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_the_seeds_of_a_cluster_are_a_list(scheme):
    """With IPv6 addresses, and the default port where none is given."""
    location = parse_redis_url(f"{scheme}+cluster://u:p%40ss@one,[::1]:7000,10.0.0.1:7001/0")
    assert location.kind is Kind.CLUSTER
    assert location.hosts == (("one", 6379), ("::1", 7000), ("10.0.0.1", 7001))
    assert location.options == {"username": "u", "password": "p@ss"}


def test_sentinels_have_credentials_of_their_own():
    """And the name of the service that they watch; the database may be left out."""
    location = parse_redis_url(
        "redis+sentinel://:secret@one,two:5000/my%20master/3?sentinel_username=s&sentinel_password=t"
    )
    assert location.kind is Kind.SENTINEL
    assert location.hosts == (("one", 26379), ("two", 5000))
    assert (location.service, location.db) == ("my master", 3)
    assert location.options == {"password": "secret"}
    assert location.sentinel_options == {"username": "s", "password": "t"}
    assert parse_redis_url("redis+sentinel://one/mymaster").db == 0


@pytest.mark.parametrize("form", ["rediss+cluster://one", "valkeys+sentinel://one/mymaster"])
def test_tls_is_for_redis_and_sentinels_alike(form):
    """With the certificates of one Redis, under redis-py's names."""
    location = parse_redis_url(f"{form}?ssl_ca_certs=/ca.pem&ssl_check_hostname=false")
    assert location.options == location.sentinel_options == TLS


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://u:secret@host:6379/1", "redis://u:***@host:6379/1"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("redis+cluster://:secret@one,[::1]:7000", "redis+cluster://:***@one,[::1]:7000"),
        ("redis+sentinel://one/mymaster?sentinel_password=secret", "redis+sentinel://one/mymaster"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, text):
    """In the messages of commands, where an operator still recognises the Redis."""
    assert shown(url) == text


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("redis://:secret@far/0", ("far",)),
        ("redis://:secret@127.0.0.1/0", ()),
        ("rediss://:secret@far/0", ()),
        ("redis+cluster://:secret@127.0.0.1,far,farther", ("far", "farther")),
        ("redis+sentinel://far/mymaster?sentinel_password=secret", ("far",)),
        ("rediss+sentinel://:secret@far/mymaster", ()),
        ("redis+cluster://far", ()),
    ],
)
def test_a_password_that_crosses_the_network_in_clear_is_noticed(url, hosts):
    """``receiver check`` warns of it."""
    assert parse_redis_url(url).password_in_clear == hosts
