"""vlagent's blocks: lines of JSON, packed with zstd."""

from __future__ import annotations

try:
    from compression import zstd  # type: ignore[import-not-found]  # Python 3.14
except ImportError:
    import zstandard as zstd


def unpacked(block: bytes) -> bytes:
    """The lines of a block; ValueError if it is damaged or cut off."""
    if not block:
        return b""
    packed = zstd.ZstdDecompressor()
    packed = packed if hasattr(packed, "eof") else packed.decompressobj()
    try:
        found: bytes = packed.decompress(block)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if not packed.eof:
        raise ValueError("it ends in the middle")
    return found


def packed(lines: bytes) -> bytes:
    """A block of these lines."""
    block: bytes = zstd.compress(lines)
    return block
