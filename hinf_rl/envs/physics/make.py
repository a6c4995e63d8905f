"""Chooses what simulates a model; only what is chosen gets imported."""

from collections.abc import Sequence
from typing import Any

from hinf_rl.envs.physics.api import ModelField, Physics
from hinf_rl.envs.physics.settings import MjxSettings
from hinf_rl.errors import unknown_name

PHYSICS = {
    "mjx": "MuJoCo's JAX port: GPU, TPU or CPU, float32",
    "native": "MuJoCo itself on the CPU's threads",
}
"""Name to what simulates."""


def make_physics(
    name: str,
    model: Any,
    *,
    fields: Sequence[ModelField] = (),
    force_body: str | None = None,
    num_threads: int = 0,
    mjx: MjxSettings | None = None,
) -> Physics:
    """Builds the physics called `name`.

    Args:
      name: one of `PHYSICS`.
      model: a compiled `mujoco.MjModel`.
      fields: the model entries that each environment may set.
      force_body: name of the body that the external force acts on.
      num_threads: of native physics; 0 uses all cores.
      mjx: of MJX; None takes the defaults.

    Raises:
      UserError: there is no such physics, it is not installed, or it cannot simulate the model.
    """
    if name not in PHYSICS:
        raise unknown_name("physics", name, PHYSICS)
    if name == "mjx":
        from hinf_rl.envs.physics.mjx import MjxPhysics

        return MjxPhysics(model, fields=fields, force_body=force_body, settings=mjx)
    from hinf_rl.envs.physics.native import NativePhysics

    return NativePhysics(model, fields=fields, force_body=force_body, num_threads=num_threads)


__all__ = ["PHYSICS", "make_physics"]
