"""One training on several devices: the mesh, and where the carry lies on it.

Members of a batch of seeds need nothing of each other, so they spread over the devices first;
what is left of the devices shares each member's environments. Parameters, optimisers,
statistics and keys are copied to every device. The step stays one program: XLA adds what the
devices tell each other.
"""

import contextlib
import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hinf_rl.errors import UserError
from hinf_rl.partition import ENVS, SEEDS
from hinf_rl.types import PyTree


def make_mesh(agent: Any, *, devices: int = 1, seeds: int = 1) -> Mesh | None:
    """Lays out the devices of all processes for one training.

    Args:
      agent: the algorithm's settings: `num_envs`, `batch_size` and `num_minibatches` must
        split over the devices.
      devices: how many devices of each process to use.
      seeds: members that train side by side; 1 where they take turns.

    Returns:
      A mesh [SEEDS, ENVS], or None for one device of one process: nothing is split there.

    Raises:
      UserError: there are fewer devices, or something does not divide.
    """
    if devices < 1:
        raise UserError(f"--devices must be at least 1, got {devices}")
    chosen = [device for process in _by_process() for device in _first(process, devices)]
    if len(chosen) == 1:
        return None
    shared = math.gcd(seeds, len(chosen))
    mesh = Mesh(
        np.array(chosen).reshape(shared, -1), (SEEDS, ENVS), axis_types=(AxisType.Auto,) * 2
    )
    _check_split(agent, mesh.shape[ENVS])
    return mesh


def carry_shardings(
    carry: PyTree, mesh: Mesh | None, fields: tuple[str, ...], *, has_seeds: bool
) -> PyTree:
    """Says where each leaf of a carry lies; None everywhere without a mesh.

    Args:
      carry: arrays or `jax.eval_shape` of `init`.
      mesh: of `make_mesh`.
      fields: the carry's fields whose leaves have a row per environment.
      has_seeds: whether every leaf has a leading axis of seeds.
    """
    if mesh is None:
        return None
    lead = (SEEDS,) if has_seeds else ()

    def place(path: tuple[Any, ...], _: Any) -> NamedSharding:
        is_split = str(getattr(path[0], "name", getattr(path[0], "key", ""))) in fields
        return NamedSharding(mesh, PartitionSpec(*lead, *((ENVS,) if is_split else ())))

    return jax.tree_util.tree_map_with_path(place, carry)


def with_shardings(shapes: PyTree, shardings: PyTree) -> PyTree:
    """Returns the shapes of a carry that say where each leaf is to lie."""
    if shardings is None:
        return shapes
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        shardings,
    )


def describe(mesh: Mesh) -> str:
    """Says in a line what lies where."""
    kind = mesh.devices.flat[0].device_kind
    return (
        f"{mesh.size} devices ({kind}) of {jax.process_count()} process"
        f"{'es' * (jax.process_count() > 1)}: seeds in {mesh.shape[SEEDS]}, environments in "
        f"{mesh.shape[ENVS]} parts"
    )


def replicated(mesh: Mesh | None) -> NamedSharding | None:
    """A copy on every device: what each process can read for itself."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def tracing(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """The block in which functions are traced for `mesh`."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def _by_process() -> list[list[Any]]:
    """The devices of the backend that computes, for each process."""
    default = getattr(jax.config, "jax_default_device", None)
    found = jax.devices() if default is None else jax.devices(default.platform)
    return [
        [device for device in found if device.process_index == process]
        for process in range(jax.process_count())
    ]


def _first(found: list[Any], wanted: int) -> list[Any]:
    if wanted <= len(found):
        return found[:wanted]
    platform = found[0].platform
    fake = (
        f"; XLA_FLAGS=--xla_force_host_platform_device_count={wanted} makes as many of a CPU, "
        "for trying out"
        if platform == "cpu"
        else ""
    )
    raise UserError(
        f"--devices {wanted}: JAX finds {len(found)} {platform} device"
        f"{'s' * (len(found) > 1)}; ask for at most that many{fake}"
    )


def _check_split(agent: Any, parts: int) -> None:
    minibatch = agent.batch_size // agent.num_minibatches
    for name, count, cure in (
        ("agent.num_envs", agent.num_envs, "agent.num_envs"),
        (
            f"a minibatch of agent.num_envs * unroll_length / num_minibatches = {agent.num_envs} "
            f"* {agent.unroll_length} / {agent.num_minibatches}",
            minibatch,
            "agent.num_minibatches",
        ),
    ):
        if count % parts:
            raise UserError(
                f"{name} = {count} does not divide over {parts} devices; change {cure} or the "
                "number of devices"
            )


__all__ = ["carry_shardings", "describe", "make_mesh", "replicated", "tracing", "with_shardings"]
