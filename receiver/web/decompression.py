"""Decompresses bodies with a Content-Encoding, one bounded piece at a time.

aiohttp's own decompression also handles refused requests, and blocks the event loop: 1 MB of gzip holds 1 GiB of zeros.
So aiohttp passes bodies on as they arrive (``auto_decompress=False``), and this module decompresses only those that
are read.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes per step into zlib, and out of it. A step takes 0.1 ms for ordinary JSON, and some 2 ms in the worst case (a
#: Huffman table every 14 bytes).
_MAX_IN: Final = 8 << 10
_MAX_OUT: Final = 64 << 10
#: A body may consist of several gzip members (RFC 1952). Each needs a new decompressor, which costs 7 µs.
_MAX_MEMBERS: Final = 1000
_SUPPORTED: Final = ("gzip", "deflate")
#: Real encodings that are refused. Any other name is ignored, so that a callback is not lost over it.
_UNSUPPORTED: Final = ("br", "zstd")
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class DecompressionError(ValueError):
    """The body does not match its Content-Encoding, or the encoding is not supported."""


def decompressor(content_encoding: str) -> Decompressor | None:
    """Return a decompressor for a Content-Encoding, or None for an uncompressed body. Raises DecompressionError."""
    encoding = content_encoding.lower()
    if encoding in _UNSUPPORTED:
        raise DecompressionError("unsupported Content-Encoding; send gzip, deflate or none")
    return Decompressor(encoding) if encoding in _SUPPORTED else None


class Decompressor:
    """Decompresses one body."""

    def __init__(self, encoding: str) -> None:
        """Accept ``gzip``, or ``deflate`` with zlib's header, as specified, or without."""
        self._encoding = encoding
        self._members = 0
        self._member: zlib._Decompress | None = None

    def pieces(self, compressed: bytes) -> Iterator[bytes]:
        """Yield the next bytes decompressed, in small pieces. Raises DecompressionError."""
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
        """Return a piece, the remaining compressed bytes, and whether to call again for them."""
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
        # zlib may have consumed all input and still hold output.
        return piece, rest, bool(rest) or len(piece) == _MAX_OUT

    def _next_member(self, compressed: bytes) -> zlib._Decompress:
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise DecompressionError(
                f"the body cannot be read: it has more than {_MAX_MEMBERS} {self._encoding} streams"
            )
        if self._encoding == "gzip":
            return zlib.decompressobj(_GZIP)
        with_header = compressed[0] & 0x0F == zlib.DEFLATED
        return zlib.decompressobj(_ZLIB if with_header else _RAW)
