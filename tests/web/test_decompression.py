"""Bodies with a Content-Encoding: the same bytes come out, in short steps, and what is damaged is refused."""

from __future__ import annotations

import gzip
import itertools
import os
import zlib

import pytest
from http_wire import ask, request, wire
from hypothesis import given
from hypothesis import strategies as st
from messages import OK, SUCCESS, body, events, report

from receiver.web.decompression import DecompressionError, Decompressor, decompressor

#: What a step may give back.
PIECE = 64 << 10
FORMS = {"gzip": ("gzip", 31), "deflate": ("deflate", 15), "deflate without header": ("deflate", -15)}


def compressed(data, bits=31, level=-1):
    packer = zlib.compressobj(level, wbits=bits)
    return packer.compress(data) + packer.flush()


def decompressed(encoding, *parts):
    """Return what comes out, in the steps in which it does."""
    one = Decompressor(encoding)
    pieces = [piece for part in parts for piece in one.pieces(part)]
    one.finish()
    return pieces


@given(data=st.binary(max_size=200_000), cuts=st.lists(st.integers(0, 100_000)), form=st.sampled_from(sorted(FORMS)))
def test_what_was_compressed_comes_out(data, cuts, form):
    """However it is cut on its way."""
    encoding, bits = FORMS[form]
    whole = compressed(data, bits)
    edges = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    parts = [whole[begin:end] for begin, end in itertools.pairwise(edges)]
    assert b"".join(decompressed(encoding, *parts)) == data


@pytest.mark.parametrize("form", FORMS)
def test_no_step_takes_long(form):
    """Neither for zeros, of which a thousand are one byte, nor for what cannot be compressed."""
    encoding, bits = FORMS[form]
    for data in (b"\0" * (10 << 20), os.urandom(1 << 20), b"\0" * PIECE, b"\0" * (PIECE - 1)):
        pieces = decompressed(encoding, compressed(data, bits))
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= PIECE


def test_several_streams_in_one_body_are_read():
    """They are one after the other, as gzip allows; a body of thousands of empty ones is refused."""
    assert b"".join(decompressed("gzip", gzip.compress(b"[") + gzip.compress(b""), gzip.compress(b"]"))) == b"[]"
    with pytest.raises(DecompressionError, match="more than 1000 gzip streams"):
        decompressed("gzip", gzip.compress(b"") * 1001)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(b"[]" * 500)[:-9]),
        ("gzip", gzip.compress(b"[]") + b"and more"),
        ("gzip", compressed(b"[]", 15)),
        ("deflate", compressed(b"[]" * 500, 15)[:-1]),
        ("deflate", b"\xff\xff"),
    ],
    ids=["no gzip", "gzip cut", "more after gzip", "zlib as gzip", "deflate cut", "no deflate"],
)
def test_what_is_damaged_is_refused(encoding, data):
    """It says in one line what it is not."""
    with pytest.raises(DecompressionError, match=f"the body cannot be read: .*{encoding}"):
        decompressed(encoding, data)


def test_names_of_encodings_have_no_case():
    """Their case is of no meaning; a name that says nothing about compression does not matter."""
    assert decompressor("GZip") is not None
    assert decompressor("Deflate") is not None
    assert decompressor("identity") is None
    assert decompressor("utf-8") is None
    for known_to_others in ("br", "ZSTD"):
        with pytest.raises(DecompressionError, match="send gzip, deflate or none"):
            decompressor(known_to_others)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("form", FORMS)
async def test_a_compressed_callback_of_the_largest_size_is_taken(receiver, redis, form, chunked):
    """4 MiB, which arrive in many packets and are decompressed in many steps."""
    encoding, bits = FORMS[form]
    packed = compressed(body([report()]).ljust(4 << 20), bits, level=0 if chunked else -1)
    if not chunked:
        data = request(packed, Content_Encoding=encoding)
    else:
        head = request(Content_Length="", Transfer_Encoding="chunked", Content_Encoding=encoding)
        parts = [packed[begin : begin + 50_000] for begin in range(0, len(packed), 50_000)]
        data = head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert (await ask(receiver.port, data)).json == OK
    assert len(await events(redis, SUCCESS)) == 1


async def test_compressed_callbacks_one_after_the_other(receiver, redis):
    """On one connection, sent at once: each has its answer, and what follows a refused one is a request."""
    good = [request(gzip.compress(body([report(sid)])), Content_Encoding="gzip") for sid in ("1", "2")]
    nowhere = request(gzip.compress(b"\0" * (8 << 20)), "/nowhere", Content_Encoding="gzip")
    async with wire(receiver.port) as connection:
        await connection.send(good[0] + nowhere + good[1])
        assert [(await connection.answer()).status for _ in range(3)] == [200, 404, 200]
    assert len(await events(redis, SUCCESS)) == 2
