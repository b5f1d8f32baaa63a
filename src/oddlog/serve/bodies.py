"""Bodies of requests, unpacked within a bound: gzip, deflate, zstd and snappy's block format."""

from __future__ import annotations

import zlib

from oddlog.serve.lines import TOO_LARGE, UNSUPPORTED, RefusedError

ZSTD_WINDOW = 1 << 23  # what RFC 8878 asks of a reader; more could fill the memory
ZSTD_PIECE = 1 << 10  # 4 bytes may stand for 128 KiB


def unpack(body: bytes, encoding: str | None, limit: int) -> bytes:
    """Return what a body holds.

    Args:
        body: As received.
        encoding: Of the header ``Content-Encoding``; None or "" for none.
        limit: Bytes that it may hold.

    Raises:
        RefusedError: Damaged, larger than the limit, or an encoding that is not known.
    """
    kind = (encoding or "identity").strip().lower()
    if kind not in _UNPACKERS:
        known = ", ".join(sorted(_UNPACKERS))
        raise RefusedError(f"Content-Encoding {kind[:40]!r} is none of {known}", UNSUPPORTED)
    unpacked = _UNPACKERS[kind](body, limit)
    if len(unpacked) > limit:
        raise too_large(limit)
    return unpacked


def too_large(limit: int) -> RefusedError:
    """Return the refusal of a body that holds more than ``limit`` bytes."""
    return RefusedError(f"the body holds more than {limit:,} bytes; send smaller ones", TOO_LARGE)


def _identity(body: bytes, limit: int) -> bytes:
    return body


def _gzip(body: bytes, limit: int) -> bytes:
    """Unpack members of gzip, one after the other, until there are no more or too many bytes."""
    return _zlib(body, limit, wbits=31)


def _deflate(body: bytes, limit: int) -> bytes:
    return _zlib(body, limit, wbits=15)


def _zlib(body: bytes, limit: int, *, wbits: int) -> bytes:
    parts, size, left = [], 0, body
    while left and size <= limit:
        member = zlib.decompressobj(wbits=wbits)
        try:
            part = member.decompress(left, limit + 1 - size)
        except zlib.error as error:
            raise RefusedError(f"the body is damaged: {error}") from None
        parts.append(part)
        size += len(part)
        if not member.eof and size <= limit:
            raise RefusedError("the body is damaged: its packed data ends too early")
        left = member.unused_data
    return b"".join(parts)


def _zstd(body: bytes, limit: int) -> bytes:
    """Unpack frames of zstd, in pieces so small that none of them can fill the memory."""
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    parts, size, frame = [], 0, None
    for start in range(0, len(body), ZSTD_PIECE):
        left = body[start : start + ZSTD_PIECE]
        while left and size <= limit:
            frame = frame or unpacker.decompressobj()
            try:
                parts.append(frame.decompress(left))
            except zstandard.ZstdError as error:
                raise RefusedError(f"the body is damaged: {error}") from None
            size += len(parts[-1])
            left, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None and size <= limit:
        raise RefusedError("the body is damaged: its packed data ends too early")
    return b"".join(parts)


def _snappy(body: bytes, limit: int) -> bytes:
    from cramjam import DecompressionError, snappy

    try:
        if snappy.decompress_raw_len(body) > limit:  # it begins with how much it holds
            raise too_large(limit)
        return bytes(snappy.decompress_raw(body))
    except DecompressionError as error:
        raise RefusedError(f"the body is damaged: {error}") from None


_UNPACKERS = {
    "identity": _identity,
    "gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
    "snappy": _snappy,
}
