"""Checkpoints bring back every bit, and a damaged one is never restored."""

import errno
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from hypothesis import HealthCheck, given, settings

from hinf_rl.errors import UserError
from hinf_rl.training import checkpoint as ckpt

IDENTITY = {"task": "toy", "algorithm": "none", "sizes": (1, 2)}


class Inner(NamedTuple):
    half: jax.Array
    flag: jax.Array


@struct.dataclass
class Carry:
    weights: dict
    inner: Inner
    key: jax.Array
    keys: jax.Array
    count: jax.Array
    empty: jax.Array
    nothing: None = None


def make_carry(key):
    key, key_w, key_many = jax.random.split(key, 3)
    return Carry(
        weights={"a": jax.random.normal(key_w, (3, 2)), "b": jnp.array([jnp.nan, -0.0, jnp.inf])},
        inner=Inner(jnp.array([1.5, 3.0e-8], jnp.bfloat16), jnp.array([True, False])),
        key=key,
        keys=jax.random.split(key_many, 4),
        count=jnp.array(2**31 - 1, jnp.int32),
        empty=jnp.zeros((4, 0), jnp.float32),
    )


def raw(tree):
    def bits(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()

    return [(bits(leaf), leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


@pytest.fixture
def carry():
    return make_carry(jax.random.key(3))


@pytest.fixture
def template():
    return jax.eval_shape(make_carry, jax.random.key(0))


def save(directory, step, carry, **options):
    return ckpt.save_checkpoint(directory, step, carry, identity=IDENTITY, **options)


@pytest.mark.smoke
def test_restore_is_bitwise_and_keeps_types(tmp_path, carry, template):
    save(tmp_path, 7, carry)
    step, again = ckpt.restore_checkpoint(tmp_path, template, identity=IDENTITY)
    assert step == 7
    assert raw(again) == raw(carry)
    assert jax.tree.structure(again) == jax.tree.structure(carry)
    # A restored key draws the same numbers.
    assert jax.random.bits(again.key) == jax.random.bits(carry.key)


def test_seed_axis_round_trips_and_selects(tmp_path):
    keys = jax.random.split(jax.random.key(1), 3)
    carries = jax.jit(jax.vmap(make_carry))(keys)
    save(tmp_path, 1, carries)
    _, again = ckpt.restore_checkpoint(tmp_path, jax.eval_shape(jax.vmap(make_carry), keys))
    assert raw(ckpt.select_seed(again, 2)) == raw(make_carry(keys[2]))
    with pytest.raises(UserError, match=r"seed 3 does not exist.*0 to 2"):
        ckpt.select_seed(again, 3)


@pytest.mark.smoke
def test_keeps_the_newest(tmp_path, carry):
    for step in (1, 2, 30, 4):
        save(tmp_path, step, carry, keep=2)
    assert ckpt.available_steps(tmp_path) == [4, 30]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["000000004", "000000030"]


def flip_every_array_file(path):
    for victim in (path / "arrays").rglob("d/*"):
        data = bytearray(victim.read_bytes())
        data[len(data) // 3] ^= 0x01
        victim.write_bytes(bytes(data))


def truncate(path):
    for victim in (path / "arrays").rglob("d/*"):
        victim.write_bytes(victim.read_bytes()[:-20])


def delete_arrays(path):
    for victim in (path / "arrays").rglob("d/*"):
        victim.unlink()


def delete_manifest(path):
    (path / "manifest.json").unlink()


def cut_manifest(path):
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text[: len(text) // 2])


def edit_manifest(path):
    data = json.loads((path / "manifest.json").read_text())
    data["step"] += 1
    (path / "manifest.json").write_text(json.dumps(data))


def swap_checksum(path):
    data = json.loads((path / "manifest.json").read_text())
    data.pop("checksum")
    data["leaves"][0]["checksum"] = "0" * 32
    data["checksum"] = ckpt._json_checksum(data)
    (path / "manifest.json").write_text(json.dumps(data))


DAMAGE = [
    flip_every_array_file,
    truncate,
    delete_arrays,
    delete_manifest,
    cut_manifest,
    edit_manifest,
    swap_checksum,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_falls_back_to_the_newest_intact(tmp_path, carry, template, damage):
    older = make_carry(jax.random.key(9))
    save(tmp_path, 1, older)
    damage(save(tmp_path, 2, carry))
    lines = []
    step, again = ckpt.restore_checkpoint(tmp_path, template, warn=lines.append)
    assert step == 1
    assert raw(again) == raw(older)
    assert len(lines) == 1 and "000000002 is damaged" in lines[0]


@pytest.mark.parametrize("damage", DAMAGE)
def test_only_damaged_checkpoints_is_a_clear_error(tmp_path, carry, template, damage):
    damage(save(tmp_path, 2, carry))
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(UserError, match="all 1"):
        ckpt.restore_checkpoint(tmp_path, template)


@given(where=st.integers(0, 10**9), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_one_flipped_bit_anywhere_is_caught(where, bit):
    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder), 2, {"x": jnp.arange(6, dtype=jnp.float32)})
        content = sorted(p for p in path.rglob("*") if p.is_file() and p.stat().st_size)
        victim = content[where % len(content)]
        data = bytearray(victim.read_bytes())
        data[where % len(data)] ^= 1 << bit
        victim.write_bytes(bytes(data))
        with pytest.raises(UserError, match="damaged"):
            ckpt.restore_checkpoint(
                Path(folder), {"x": jnp.zeros(6, jnp.float32)}, warn=lambda line: None
            )


def test_killed_save_is_ignored_then_removed(tmp_path, carry, template):
    save(tmp_path, 1, carry)
    leftover = tmp_path / ".saving-000000002-1"
    (leftover / "arrays").mkdir(parents=True)
    assert ckpt.restore_checkpoint(tmp_path, template)[0] == 1
    save(tmp_path, 3, carry)
    assert not leftover.exists()


def test_a_damaged_checkpoint_is_replaced_when_its_iteration_comes_again(tmp_path, carry, template):
    delete_manifest(save(tmp_path, 2, carry))
    save(tmp_path, 2, carry)
    assert ckpt.restore_checkpoint(tmp_path, template)[0] == 2


def test_no_checkpoint_is_a_clear_error(tmp_path, template):
    with pytest.raises(UserError, match="there is none"):
        ckpt.restore_checkpoint(tmp_path / "absent", template)


def test_wrong_template_names_the_leaf(tmp_path, carry):
    save(tmp_path, 1, carry)
    wider = carry.replace(weights={**carry.weights, "a": jnp.zeros((3, 5))})
    with pytest.raises(UserError, match=r"another task.*'a'.*\[3, 2\].*\[3, 5\]"):
        ckpt.restore_checkpoint(tmp_path, wider)
    with pytest.raises(UserError, match="another task"):
        ckpt.restore_checkpoint(tmp_path, {"only": jnp.zeros(1)})
    narrower = carry.replace(count=jnp.array(0, jnp.uint32))
    with pytest.raises(UserError, match=r"int32.*uint32"):
        ckpt.restore_checkpoint(tmp_path, narrower)


def test_another_identity_names_the_difference(tmp_path, carry, template):
    save(tmp_path, 1, carry)
    with pytest.raises(UserError, match=r"task = 'toy'.*'quadruped'"):
        ckpt.restore_checkpoint(tmp_path, template, identity={**IDENTITY, "task": "quadruped"})


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device"),
    ],
)
def test_full_disk_keeps_what_was_saved(tmp_path, carry, template, monkeypatch, error):
    save(tmp_path, 1, carry)

    class Full:
        def save(self, path, leaves):
            path.mkdir()
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(ckpt, "_orbax", Full)
        with pytest.raises(UserError, match=r"no space left.*free some"):
            save(tmp_path, 2, carry)
    assert [entry.name for entry in tmp_path.iterdir()] == ["000000001"]
    assert ckpt.restore_checkpoint(tmp_path, template)[0] == 1


def test_too_little_room_is_noticed_before_writing(tmp_path, carry, monkeypatch):
    usage = ckpt.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(ckpt.shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(UserError, match="no space left"):
        save(tmp_path, 1, carry)
    assert ckpt.available_steps(tmp_path) == []
