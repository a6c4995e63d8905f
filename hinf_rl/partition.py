"""What a traced step says about where its rows lie, when it is traced for several devices.

The mesh is the ambient one (`jax.set_mesh`) with the axes SEEDS and ENVS; without it every
function here gives back what it was given, so one device computes what it always did.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec

from hinf_rl.types import Array, PyTree

SEEDS = "seeds"
"""Mesh axis over which the members of a batch of seeds lie."""
ENVS = "envs"
"""Mesh axis over which environments, and the samples of a minibatch, lie."""


def by_rows(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Makes each device compute `function` on its own rows.

    The partitioner splits what it understands. A callback to the host it does not: it gathers
    all rows and has every device (or the first one) step all of them. Environments do not see
    each other, so nothing is lost by leaving it no choice.

    Args:
      function: of arguments and results whose leaves are [E, ...]; row i of the results
        depends on row i of the arguments alone.
    """
    mesh = _mesh()
    if mesh is None:
        return function
    rows = PartitionSpec(ENVS)
    # The check of replication knows no rule for callbacks, and nothing here is replicated.
    return jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)


def whole(tree: PyTree) -> PyTree:
    """Gives every device all rows of every leaf: one gather, here and not at each use."""
    return _constrain(tree, PartitionSpec())


def split(array: Array, axis: int) -> Array:
    """Spreads `axis` over the devices, and with it the work on what it indexes."""
    return _constrain(array, PartitionSpec(*[None] * axis, ENVS))


def _constrain(tree: PyTree, spec: PartitionSpec) -> PyTree:
    if _mesh() is None:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree)


def _mesh() -> Any:
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if ENVS in mesh.axis_names else None


__all__ = ["ENVS", "SEEDS", "by_rows", "split", "whole"]
