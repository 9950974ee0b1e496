"""Bodies with a Content-Encoding, decompressed a bounded piece at a time.

aiohttp would decompress whatever arrives, also of requests that are refused: 1 MB of gzip holds 1 GiB of zeros, and
the event loop stands still while they are produced. So it hands over bodies as they came (``auto_decompress=False``),
and only a body that is asked for is decompressed, here.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes that go into zlib at a time, and bytes that come out. Ordinary JSON takes 0.1 ms a step, the worst that can be
#: made up (a Huffman table every 14 bytes) some 2 ms.
_MAX_IN: Final = 8 << 10
_MAX_OUT: Final = 64 << 10
#: Gzip files one after the other in one body are allowed (RFC 1952). Each costs a new decompressor of 7 µs.
_MAX_MEMBERS: Final = 1000
_SUPPORTED: Final = ("gzip", "deflate")
#: Encodings that exist and that we do not read. Any other name is ignored: it is no reason to lose a callback.
_UNSUPPORTED: Final = ("br", "zstd")
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class DecompressionError(ValueError):
    """The body is not compressed as its Content-Encoding says, or as we do not know. The message says which."""


def decompressor(content_encoding: str) -> Decompressor | None:
    """Return what decompresses such a body; None if it is not compressed. Raises DecompressionError."""
    encoding = content_encoding.lower()
    if encoding in _UNSUPPORTED:
        raise DecompressionError("the Content-Encoding is none that is known here; send gzip, deflate or none")
    return Decompressor(encoding) if encoding in _SUPPORTED else None


class Decompressor:
    """Decompresses one body."""

    def __init__(self, encoding: str) -> None:
        """Take ``gzip`` or ``deflate``. The latter is read with zlib's header, as it should be, and without."""
        self._encoding = encoding
        self._members = 0
        self._member: zlib._Decompress | None = None

    def pieces(self, compressed: bytes) -> Iterator[bytes]:
        """Yield what the next bytes of the body decompress to. Every step is short. Raises DecompressionError."""
        for begin in range(0, len(compressed), _MAX_IN):
            rest = compressed[begin : begin + _MAX_IN]
            more = True
            while more:
                piece, rest, more = self._step(rest)
                yield piece

    def finish(self) -> None:
        """Raise DecompressionError if the body ended early."""
        if self._member is not None:
            raise DecompressionError(f"the body cannot be read: its {self._encoding} ends early")

    def _step(self, compressed: bytes) -> tuple[bytes, bytes, bool]:
        """Return a piece, the bytes that are still to be decompressed, and whether there is more to come of them."""
        if self._member is None:
            self._member = self._next_member(compressed)
        try:
            piece = self._member.decompress(compressed, _MAX_OUT)
        except zlib.error:
            raise DecompressionError(f"the body cannot be read: it is not {self._encoding}") from None
        if self._member.eof:
            rest = self._member.unused_data
            self._member = None
            return piece, rest, bool(rest)
        rest = self._member.unconsumed_tail
        # zlib may hold back what did not fit, although it has consumed all.
        return piece, rest, bool(rest) or len(piece) == _MAX_OUT

    def _next_member(self, compressed: bytes) -> zlib._Decompress:
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise DecompressionError(
                f"the body cannot be read: more than {_MAX_MEMBERS} {self._encoding} streams in it"
            )
        if self._encoding == "gzip":
            return zlib.decompressobj(_GZIP)
        with_header = compressed[0] & 0x0F == zlib.DEFLATED
        return zlib.decompressobj(_ZLIB if with_header else _RAW)
