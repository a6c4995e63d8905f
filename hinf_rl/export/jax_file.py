"""A policy as one `.npz` file of JAX parameters and metadata, and back as a PyTree."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl import config as configs
from hinf_rl.agents.hinf.config import PlayerConfig
from hinf_rl.agents.hinf.players import GaussianPolicy, Player
from hinf_rl.errors import UserError
from hinf_rl.export.metadata import check_metadata
from hinf_rl.ops.normalize import NormalizerState

_METADATA = "metadata"
_PARAMS, _NORMALIZER = "params/", "normalizer/"


def jax_bytes(policy: GaussianPolicy, metadata: Mapping[str, Any]) -> bytes:
    """Returns the file's content: every leaf as it is, and the metadata as JSON text."""
    arrays = {
        _PARAMS + "/".join(str(entry.key) for entry in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(policy.params)
    }
    if policy.normalizer is not None:
        fields = policy.normalizer._asdict()
        arrays |= {_NORMALIZER + name: np.asarray(leaf) for name, leaf in fields.items()}
    buffer = io.BytesIO()
    arrays[_METADATA] = np.array(json.dumps(metadata))
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType] arrays by name
    return buffer.getvalue()


def load_policy(path: Path | str) -> GaussianPolicy:
    """Loads an exported policy: a PyTree that maps observations to actions, samples included.

    Its parameters are those of the run, bit for bit. `read_metadata` tells the rest.

    Args:
      path: file that `hinf-rl export --format jax` wrote.

    Raises:
      UserError: the file is missing, damaged or something else.
    """
    metadata, arrays = _read(path)
    config = configs.from_dict(PlayerConfig, metadata["actor"], path="actor")
    player = Player(
        config, input_size=metadata["network"]["sizes"][0], size=metadata["action_size"]
    )
    leaves = {name: jnp.asarray(array) for name, array in arrays.items()}
    moments = _nested(leaves, _NORMALIZER)
    normalizer = NormalizerState(**moments) if moments else None
    params = _nested(leaves, _PARAMS)
    return GaussianPolicy(params, normalizer, None, player, "policy")


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Returns what the file says about itself.

    Raises:
      UserError: the file is missing, damaged or something else.
    """
    return _read(path)[0]


def _read(path: Path | str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; write one with `hinf-rl export --format jax`")
    try:
        # Not the path: NumPy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        metadata = json.loads(str(arrays.pop(_METADATA)))
    except (ValueError, KeyError, EOFError, OSError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is no policy that `hinf-rl export --format jax` wrote, or is damaged"
        ) from error
    check_metadata(metadata, str(path))
    return metadata, arrays


def _nested(leaves: Mapping[str, jax.Array], prefix: str) -> dict[str, Any]:
    """Dictionaries again, from names with slashes."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        if name.startswith(prefix):
            *parents, last = name.removeprefix(prefix).split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = leaf
    return tree


__all__ = ["jax_bytes", "load_policy", "read_metadata"]
