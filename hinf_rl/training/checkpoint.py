"""Checkpoints of the whole carry: atomic, exact, and never restored when damaged.

A checkpoint is a directory named by its iteration. Orbax writes the arrays, `manifest.json`
beside them holds for each leaf its path, shape, dtype and checksum, a checksum of each file,
and one of itself. The files are checked before Orbax sees them, the leaves after. All is written
in a hidden directory that is renamed when complete, so a killed save leaves nothing that looks
like a checkpoint.

A carry that lies on several devices is saved whole, so that any number of them can restore it.
Of several processes all give their rows, and the first alone touches the disk.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.training import files, processes
from hinf_rl.training.provenance import library_versions
from hinf_rl.types import PyTree

_FORMAT = 1
_MANIFEST = "manifest.json"
_ARRAYS = "arrays"
_METADATA_BYTES = 200_000


class DamagedCheckpointError(Exception):
    """A checkpoint that is incomplete or whose content does not match its checksums."""


def save_checkpoint(
    directory: Path, step: int, carry: PyTree, *, identity: Mapping[str, Any], keep: int = 3
) -> Path:
    """Saves `carry` as the checkpoint of iteration `step`; every process must come here.

    Args:
      directory: where checkpoints lie; made if absent.
      step: iterations done.
      carry: PyTree of arrays, typed PRNG keys among them.
      identity: what the checkpoint belongs to (JSON values); a restore compares it.
      keep: how many of the newest checkpoints to keep, at least 1.

    Returns:
      The checkpoint's directory.

    Raises:
      UserError: the disk is full or refuses; earlier checkpoints are intact.
    """
    if keep < 1:
        raise UserError(f"the number of checkpoints to keep must be at least 1, got {keep}")
    leaves = [_Leaf.of(name, leaf) for name, leaf in _named_leaves(carry).items()]
    return processes.on_first(lambda: _save(directory, step, leaves, identity, keep))


def available_steps(directory: Path) -> list[int]:
    """Returns the iterations of the complete checkpoints in `directory`, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(int(entry.name) for entry in directory.iterdir() if entry.name.isdigit())


def restore_checkpoint(
    directory: Path,
    template: PyTree,
    *,
    identity: Mapping[str, Any] | None = None,
    warn: Callable[[str], None] | None = None,
) -> tuple[int, PyTree]:
    """Restores the newest intact checkpoint, bit for bit; every process must come here.

    Args:
      directory: where checkpoints lie.
      template: carry of the wanted structure; arrays or `jax.eval_shape` of `init`. Leaves that
        have a sharding are put there, whatever number of devices they were saved from.
      identity: what the checkpoint must belong to; None accepts any.
      warn: receives one line for each damaged checkpoint that is passed over.

    Returns:
      (iterations done, carry).

    Raises:
      UserError: no intact checkpoint, or one of another task or configuration.
    """
    step, leaves = processes.on_first(lambda: _newest(directory, template, identity, warn))
    placed = [
        leaf.placed(wanted) for leaf, wanted in zip(leaves, jax.tree.leaves(template), strict=True)
    ]
    return step, jax.tree.unflatten(jax.tree.structure(template), placed)


def select_seed(carry: PyTree, index: int) -> PyTree:
    """Returns one member of a carry whose leaves have a leading seed axis.

    Raises:
      UserError: the carry has no such member.
    """
    count = jax.tree.leaves(carry)[0].shape[0]
    if not 0 <= index < count:
        raise UserError(f"seed {index} does not exist; this run has seeds 0 to {count - 1}")
    return jax.tree.map(lambda leaf: leaf[index], carry)


def _save(
    directory: Path,
    step: int,
    leaves: Sequence["_Leaf"],
    identity: Mapping[str, Any],
    keep: int,
) -> Path:
    final = directory / f"{step:09d}"
    partial = directory / f".saving-{step:09d}-{os.getpid()}"
    with files.disk_errors(f"save checkpoint {final}"):
        directory.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(directory)
        try:
            _write(partial, step, leaves, identity)
            # The same iteration is saved again after a fall-back to an older checkpoint.
            files.remove_tree(final)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    for old in available_steps(directory)[:-keep]:
        files.remove_tree(directory / f"{old:09d}")
    return final


class _Leaf(NamedTuple):
    """An array of the carry in the memory of this process."""

    signature: dict[str, Any]  # path, shape and dtype, of the leaf and of its data
    data: np.ndarray  # of a key: its words

    @classmethod
    def of(cls, name: str, leaf: jax.Array) -> "_Leaf":
        data = processes.to_host(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        more: dict[str, Any] = {"data_shape": list(data.shape), "data_dtype": str(data.dtype)}
        if _is_key(leaf):
            more["key_impl"] = str(jax.random.key_impl(leaf))
        return cls(_signature(name, leaf) | more, data)

    def placed(self, wanted: Any) -> jax.Array:
        """The leaf on the devices that `wanted` names."""

        # A copy: the loop donates the carry, and a donated buffer must not belong to NumPy.
        def rows(index: Any = ...) -> jax.Array:
            return jnp.array(self.data[index], dtype=self.data.dtype, copy=True)

        sharding = getattr(wanted, "sharding", None)
        placed = (
            rows()
            if sharding is None
            else jax.make_array_from_callback(self.data.shape, sharding, rows)
        )
        if _is_key(wanted):
            placed = jax.random.wrap_key_data(placed, impl=self.signature["key_impl"])
        return placed


def _newest(
    directory: Path,
    template: PyTree,
    identity: Mapping[str, Any] | None,
    warn: Callable[[str], None] | None,
) -> tuple[int, list[_Leaf]]:
    steps = available_steps(directory)
    for step in reversed(steps):
        path = directory / f"{step:09d}"
        try:
            return step, _read(path, template, identity)
        except DamagedCheckpointError as error:
            (warn or warnings.warn)(f"checkpoint {path} is damaged ({error}); trying an older one")
    found = f"all {len(steps)} checkpoints are damaged" if steps else "there is none"
    raise UserError(f"no checkpoint to restore in {directory}: {found}; start a new run")


def _write(path: Path, step: int, leaves: Sequence[_Leaf], identity: Mapping[str, Any]) -> None:
    # Compressed or not, with metadata; failing here costs less than a torn write.
    needed = sum(leaf.data.nbytes for leaf in leaves) * 6 // 5 + _METADATA_BYTES
    if shutil.disk_usage(path.parent).free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:.1f} MB needed")
    path.mkdir()
    # Orbax refuses arrays without elements; the manifest alone brings them back.
    full = {f"{i:05d}": leaf.data for i, leaf in enumerate(leaves) if leaf.data.size}
    with _silent_absl():
        _orbax().save((path / _ARRAYS).absolute(), full)
    manifest = {
        "format": _FORMAT,
        "step": step,
        "identity": dict(identity),
        "versions": library_versions(),
        "leaves": [{**leaf.signature, "checksum": _checksum(leaf.data)} for leaf in leaves],
        "files": _file_checksums(path / _ARRAYS),
    }
    files.write_json(path / _MANIFEST, {**manifest, "checksum": _json_checksum(manifest)})


def _read(path: Path, template: PyTree, identity: Mapping[str, Any] | None) -> list[_Leaf]:
    manifest = _read_manifest(path)
    _check_identity(path, manifest["identity"], identity)
    _check_structure(path, manifest["leaves"], template)
    if _file_checksums(path / _ARRAYS) != manifest["files"]:
        raise DamagedCheckpointError("its files are not the ones that were written")
    stored = _orbax().restore((path / _ARRAYS).absolute()) or {}
    leaves = []
    for i, entry in enumerate(manifest["leaves"]):
        array = np.asarray(stored[f"{i:05d}"]) if f"{i:05d}" in stored else _empty(entry)
        if _checksum(array) != entry["checksum"]:
            raise DamagedCheckpointError(f"checksum of {entry['path']} differs")
        leaves.append(_Leaf(entry, array))
    return leaves


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        checksum = manifest.pop("checksum")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DamagedCheckpointError(f"manifest: {type(error).__name__}") from error
    if checksum != _json_checksum(manifest):
        raise DamagedCheckpointError("checksum of the manifest differs")
    if manifest["format"] != _FORMAT:
        raise UserError(
            f"{path} has format {manifest['format']}, this version reads {_FORMAT}; "
            f"use hinf_rl {manifest['versions'].get('hinf_rl')}"
        )
    return manifest


def _check_identity(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> None:
    if wanted is None:
        return
    # Through JSON, so that tuples and lists compare equal.
    here: dict[str, Any] = json.loads(json.dumps(dict(wanted)))
    for name in sorted({*found, *here}):
        if found.get(name) != here.get(name):
            raise UserError(
                f"checkpoint {path} was made with {name} = {found.get(name)!r}, this run has "
                f"{here.get(name)!r}; use the same settings or another output directory"
            )


def _check_structure(path: Path, entries: list[dict[str, Any]], template: PyTree) -> None:
    wanted = [_signature(name, leaf) for name, leaf in _named_leaves(template).items()]
    fields = ("path", "shape", "dtype")
    for entry, leaf in zip(entries, wanted, strict=False):
        if any(entry[field] != leaf[field] for field in fields):
            found, here = (" ".join(str(side[field]) for field in fields) for side in (entry, leaf))
            raise UserError(
                f"checkpoint {path} is of another task or configuration: it holds {found}, "
                f"this run has {here}; use the same settings or another output directory"
            )
    if len(entries) != len(wanted):
        raise UserError(
            f"checkpoint {path} is of another task or configuration: {len(entries)} arrays, "
            f"this run has {len(wanted)}; use the same settings or another output directory"
        )


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in paths}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _empty(entry: Mapping[str, Any]) -> np.ndarray:
    if np.prod(entry["data_shape"]) != 0:
        raise DamagedCheckpointError(f"{entry['path']} is missing")
    return np.zeros(entry["data_shape"], entry["data_dtype"])


def _signature(name: str, leaf: Any) -> dict[str, Any]:
    return {"path": name, "shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _checksum(array: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()


def _file_checksums(directory: Path) -> dict[str, str]:
    """Returns a checksum for each file below `directory`, by relative name."""
    return {
        str(path.relative_to(directory)): hashlib.blake2b(
            path.read_bytes(), digest_size=16
        ).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _json_checksum(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _orbax() -> Any:
    # Imported late: it costs a second that `--help` need not pay.
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.PyTreeCheckpointer()
    # The first process alone is here, so Orbax must not wait for the others.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


@contextlib.contextmanager
def _silent_absl() -> Iterator[None]:
    """Keeps Orbax's threads from printing a traceback of the error that is raised anyway."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _remove_leftovers(directory: Path) -> None:
    """Deletes what a killed save or removal left behind."""
    for pattern in (".saving-*", ".deleted-*"):
        for leftover in directory.glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)


__all__ = [
    "DamagedCheckpointError",
    "available_steps",
    "restore_checkpoint",
    "save_checkpoint",
    "select_seed",
]
