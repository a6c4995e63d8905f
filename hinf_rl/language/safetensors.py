"""Reader of safetensors files: a length, a JSON header, then the tensors' bytes.

Ours, and not the package of that name, because its NumPy side has no bfloat16 (0.8), which most
published checkpoints are stored in, and because an error has to name file and tensor.
"""

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from hinf_rl.errors import UserError

_DTYPES = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
_LENGTH_BYTES = 8
# The format's own limit; a larger number is no header but damage.
_MAX_HEADER_BYTES = 100_000_000


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """Maps a file into memory; a tensor is read from disk when it is looked at.

    Args:
      path: file with tensors of 16 or 32 bit floats.

    Returns:
      Read-only arrays by name, in the file's own dtypes.

    Raises:
      UserError: the file is missing, cut short, or its header contradicts itself.
    """
    try:
        size = path.stat().st_size
        content = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    header, start = _header(path, content)
    data = content[start:]
    _check_layout(path, header, len(data))
    return {name: _tensor(data, entry) for name, entry in header.items()}


def _header(path: Path, content: NDArray[np.uint8]) -> tuple[dict[str, dict[str, Any]], int]:
    """Entries by name, and where the data starts."""
    if len(content) < _LENGTH_BYTES:
        raise _damaged(path, f"it has {len(content)} bytes, too few for a header")
    length = int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
    start = _LENGTH_BYTES + length
    if length > _MAX_HEADER_BYTES or start > len(content):
        raise _damaged(
            path, f"its header claims {length} bytes, and {len(content) - _LENGTH_BYTES} follow"
        )
    try:
        header = json.loads(
            content[_LENGTH_BYTES:start].tobytes(), object_pairs_hook=_without_duplicates
        )
    except ValueError as error:
        raise _damaged(path, f"its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a table of tensors")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        _check_entry(path, name, entry)
    return header, start


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _check_entry(path: Path, name: str, entry: Any) -> None:
    """Raises unless dtype, shape and offsets are there and agree."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        counts = [*shape, begin, end]
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, f"tensor {name!r} lacks dtype, shape or data_offsets") from None
    # bool is an int to Python.
    if any(type(count) is not int or count < 0 for count in counts):
        raise _damaged(path, f"tensor {name!r} has shape {shape} at bytes {begin} to {end}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise UserError(
            f"tensor {name!r} of {path} has dtype {dtype}; only {', '.join(sorted(_DTYPES))} can "
            "be read, so store it in one of them"
        )
    expected = math.prod(shape) * _DTYPES[dtype].itemsize
    if end - begin != expected:
        raise _damaged(
            path, f"tensor {name!r} of shape {shape} needs {expected} bytes, not {end - begin}"
        )


def _check_layout(path: Path, header: dict[str, dict[str, Any]], size: int) -> None:
    """Raises unless the tensors follow each other without gap or overlap, up to the end."""
    reached = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if begin != reached:
            kind = "overlaps the one before" if begin < reached else "leaves a gap before it"
            raise _damaged(path, f"tensor {name!r} at byte {begin} {kind}, which ends at {reached}")
        reached = end
    if reached != size:
        raise _damaged(path, f"its tensors take {reached} bytes, and the file holds {size}")


def _tensor(data: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[Any]:
    begin, end = entry["data_offsets"]
    return data[begin:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged: {reason}; fetch it again")


__all__ = ["read_safetensors"]
