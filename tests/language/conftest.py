"""Writer of safetensors files, from the format's description alone."""

import json
import struct
import types

import numpy as np
import pytest

NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def header_of(tensors):
    """Entries in order, and the bytes of all tensors."""
    header, data = {}, b""
    for name, value in tensors.items():
        raw = np.ascontiguousarray(value).tobytes()
        header[name] = {
            "dtype": NAMES[value.dtype.name],
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    return header, data


def pack(header, data):
    """Length, header filled up with blanks to a multiple of 8, data."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def write(path, tensors):
    """Writes a whole file."""
    path.write_bytes(pack(*header_of(tensors)))


@pytest.fixture
def files():
    """`header_of(tensors)`, `pack(header, data)` and `write(path, tensors)`."""
    return types.SimpleNamespace(header_of=header_of, pack=pack, write=write)
