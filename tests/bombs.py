"""Bodies that unpack to much."""

from __future__ import annotations

import zlib

#: Bytes that one part unpacks to.
_PART = 8 << 20


def bomb(size: int, bits: int = 31) -> bytes:
    """Return so many zeros as gzip, or in another of zlib's forms, made of one packed part over and over."""
    packer = zlib.compressobj(9, wbits=bits)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    part = packer.compress(b"\0" * _PART) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + part * (size // _PART)
