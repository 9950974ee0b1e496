"""The optional second port: callbacks and probes for the world, everything else for those inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from http_wire import ask, request, wire
from messages import body, report
from servers import START_TIMEOUT, eventually, free_port

from receiver.errors import SettingsError
from receiver.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import Receiver

_REPORTS = "/v2/default/notifications/sms/report"
_INSIDE = ("/metrics", "/docs", "/openapi.json", "/console", _REPORTS, "/v3/projects", "/static/docs.css")
_BOTH = ("/livez", "/readyz")


async def status(port: int, path: str, method: str = "GET") -> int:
    """Ask on a connection of its own."""
    async with wire(port) as connection:
        await connection.send(request(path=path, method=method))
        return (await connection.answer(to_head=method == "HEAD")).status


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_each_port_serves_what_is_its_own(serve: Callable[..., Receiver], workers: str) -> None:
    internal = free_port()
    service = serve(RECEIVER_INTERNAL_PORT=str(internal), RECEIVER_WORKERS=workers)
    post = request(body([report()]))
    for _ in range(10):  # of the workers, all
        async with wire(service.port) as outside, wire(internal) as inside:
            await outside.send(post)
            assert (await outside.answer()).status == 200
            await inside.send(post)  # authenticated before, on the other port
            refused = await inside.answer()
            assert (refused.status, "public port" in refused.body.decode()) == (404, True)
    assert [await status(service.port, path) for path in (*_BOTH, *_INSIDE)] == [200] * 2 + [404] * len(_INSIDE)
    assert [await status(service.port, path, "HEAD") for path in _INSIDE] == [404] * len(_INSIDE)
    for path in ("/nowhere", "//metrics", "/callbacks/../metrics", "/sms/callback/%2e%2e/metrics", "/%6Detrics"):
        assert await status(service.port, path) in (400, 404, 405), path
    assert await status(service.port, "/metrics", "POST") == 404  # not 405: to strangers it does not exist
    assert "/docs" not in (await ask(service.port, request(path="/nowhere"))).json["errmsg"]
    assert "/docs" in (await ask(internal, request(path="/nowhere"))).json["errmsg"]
    assert [await status(internal, path) for path in (*_BOTH, *_INSIDE)] == [200] * 6 + [400, 200, 200]
    assert service.stop() == 0
    assert not service.alive


def test_both_ports_are_closed_in_time_and_free_for_the_next(serve: Callable[..., Receiver]) -> None:
    port, internal = free_port(), free_port()
    for workers in ("1", "2"):
        environ = {"PORT": str(port), "RECEIVER_INTERNAL_PORT": str(internal), "RECEIVER_WORKERS": workers}
        service = serve(**environ)
        assert service.post(body([report()]))[0] == 200
        assert service.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_internal_port_that_is_taken_is_named(serve: Callable[..., Receiver], workers: str) -> None:
    first = serve(RECEIVER_INTERNAL_PORT=str(internal := free_port()))
    second = serve(wait=False, RECEIVER_INTERNAL_PORT=str(internal), RECEIVER_WORKERS=workers)
    eventually(lambda: not second.alive, "it ends", START_TIMEOUT)
    assert f"cannot listen on 127.0.0.1:{internal}: " in second.output
    assert (
        "`ss -ltnp` shows the program that does. Set RECEIVER_INTERNAL_PORT or RECEIVER_INTERNAL_HOST." in second.output
    )
    assert first.stop() == 0


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"PORT": "9000", "RECEIVER_INTERNAL_PORT": "9000"}, "it is PORT as well; choose another one"),
        ({"RECEIVER_INTERNAL_PORT": "9000", "RECEIVER_INTERNAL_HOST": "0.0.0.0"}, "anyone could look up its messages"),
    ],
)
def test_what_makes_the_port_unsafe_or_useless_is_refused(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        read_settings(environ)
