"""Files of tensors: what is written is read, and every contradiction is named."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.language.safetensors import read_safetensors

GENERATOR = np.random.default_rng(0)
TENSORS = {
    "a": GENERATOR.normal(size=(2, 3)).astype(np.float32),
    "half": GENERATOR.normal(size=5).astype(np.float16),
    "brain": GENERATOR.normal(size=(3, 1, 2)).astype(ml_dtypes.bfloat16),
    "scalar": np.array(1.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
}


def test_every_dtype_and_shape_comes_back(tmp_path, files):
    path = tmp_path / "model.safetensors"
    header, data = files.header_of(TENSORS)
    path.write_bytes(files.pack({"__metadata__": {"format": "pt"}, **header}, data))
    found = read_safetensors(path)
    assert found.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
        assert not found[name].flags.writeable


def test_the_order_of_the_header_is_free(tmp_path, files):
    header, data = files.header_of(TENSORS)
    (tmp_path / "f").write_bytes(files.pack(dict(reversed(header.items())), data))
    np.testing.assert_array_equal(read_safetensors(tmp_path / "f")["half"], TENSORS["half"])


def one_entry(**changes):
    """Header and data of one tensor of two floats whose entry is changed."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return {"x": {**entry, **changes}}, b"\0" * 8


def two_entries(begin, end, size):
    """Header and data whose second tensor starts where it should not."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    other = {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}
    return {"x": entry, "y": other}, b"\0" * size


TWICE = b'{"x":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"x":{}}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes, too few for a header"),
        (b"\0" * 7, "7 bytes, too few"),
        (struct.pack("<Q", 99) + b"{}", "claims 99 bytes, and 2 follow"),
        (struct.pack("<Q", 2**63), "claims 9223372036854775808 bytes"),
        (struct.pack("<Q", 2) + b"{]", "not JSON"),
        (struct.pack("<Q", 2) + b"\xff\xff", "not JSON"),
        (struct.pack("<Q", 2) + b"[]", "not a table"),
        (struct.pack("<Q", len(TWICE)) + TWICE + b"\0" * 4, "a name comes twice"),
        (({"x": 3}, b""), "'x' lacks dtype"),
        (({"x": {"dtype": "F32", "shape": [2]}}, b""), "'x' lacks dtype"),
        (one_entry(data_offsets=[0]), "'x' lacks dtype"),
        (one_entry(dtype="I8"), "has dtype I8; only BF16, F16, F32"),
        (one_entry(dtype=["F32"]), r"has dtype \['F32'\]; only"),
        (one_entry(shape=[3]), r"shape \[3\] needs 12 bytes, not 8"),
        (one_entry(shape=[-2]), r"has shape \[-2\]"),
        (one_entry(shape=[2.0]), r"has shape \[2.0\]"),
        (one_entry(shape=[True, 2]), r"has shape \[True, 2\]"),
        (one_entry(data_offsets=[8, 0]), "needs 8 bytes, not -8"),
        (one_entry(data_offsets=[8, 16]), "leaves a gap before it, which ends at 0"),
        (two_entries(4, 12, 12), "'y' at byte 4 overlaps"),
        (two_entries(12, 20, 20), "'y' at byte 12 leaves a gap"),
        (two_entries(8, 16, 12), "take 16 bytes, and the file holds 12"),
        (two_entries(8, 16, 20), "take 16 bytes, and the file holds 20"),
    ],
)
def test_damage_is_named(tmp_path, files, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content if isinstance(content, bytes) else files.pack(*content))
    with pytest.raises(UserError, match=message) as caught:
        read_safetensors(path)
    assert str(path) in str(caught.value)


def test_a_file_cut_at_any_place_is_an_error(tmp_path, files):
    files.write(tmp_path / "whole", {"a": TENSORS["a"]})
    content = (tmp_path / "whole").read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(UserError):
            read_safetensors(tmp_path / "cut")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*absent: No such file"):
        read_safetensors(tmp_path / "absent")


def test_the_writer_of_these_tests_follows_the_format(files):
    content = files.pack(*files.header_of({"a": np.array([1.0], np.float32)}))
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length]) == {
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    }
    assert content[8 + length :] == b"\0\0\x80?"
