"""A small PNG writer for the kinds that Pillow cannot write, and a reader for the 16-bit kind it cannot read whole.

Follows the PNG specification (ISO/IEC 15948): chunks, bit depths, Adam7. Rows are written with filter type 0, so the
reader needs no other.
"""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, GRAY_ALPHA, RGBA = 0, 2, 4, 6
CHANNELS = {GRAY: 1, RGB: 3, GRAY_ALPHA: 2, RGBA: 4}
# Column and row where each pass of Adam7 starts, and its steps.
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed_row(row: np.ndarray, depth: int) -> bytes:
    """Samples of one row, most significant bit first, padded to whole bytes."""
    if depth == 16:
        return row.astype(">u2").tobytes()
    if depth == 8:
        return row.astype(np.uint8).tobytes()
    bits = ((row[:, None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8)
    return np.packbits(bits.reshape(-1)).tobytes()


def scan_lines(samples: np.ndarray, depth: int) -> bytes:
    """All rows, each behind its filter byte 0."""
    return b"".join(b"\0" + packed_row(row.reshape(-1), depth) for row in samples)


def interlaced_lines(samples: np.ndarray, depth: int) -> bytes:
    """The seven passes of Adam7; passes without pixels are left out."""
    passes = [samples[row::row_step, column::column_step] for column, row, column_step, row_step in ADAM7]
    return b"".join(scan_lines(part, depth) for part in passes if part.size)


def written(samples: np.ndarray, color: int, depth: int, interlaced: bool = False) -> bytes:
    """A PNG file of height × width × channels samples."""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    lines = interlaced_lines(samples, depth) if interlaced else scan_lines(samples, depth)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


def chunks(data: bytes):
    """Kind and body of each chunk."""
    position = len(SIGNATURE)
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length


def sixteen_bit_rgb(data: bytes) -> np.ndarray | None:
    """Height × width × 3 samples of a 16-bit RGB file as `written` writes it; None for every other file."""
    if not data.startswith(SIGNATURE):
        return None
    parts = list(chunks(data))
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", parts[0][1])
    if (depth, color, interlaced) != (16, RGB, 0):
        return None
    lines = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    rows = np.frombuffer(lines, np.uint8).reshape(height, 1 + width * 6)
    assert not rows[:, 0].any(), "only rows of filter type 0 are read"
    return np.ascontiguousarray(rows[:, 1:]).view(">u2").reshape(height, width, 3).astype(np.uint16)
