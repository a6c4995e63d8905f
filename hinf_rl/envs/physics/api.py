"""What every physics takes and returns, whatever simulates: one step function of one instance."""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from hinf_rl.types import Array


class ModelField(NamedTuple):
    """Entries of an `MjModel` array that differ between environments.

    Attributes:
      name: field name, for example "body_mass".
      indices: positions in the flattened field.
    """

    name: str
    indices: tuple[int, ...]


class PhysicsState(NamedTuple):
    """What the simulator needs to go on.

    Attributes:
      qpos: [nq] generalised positions (m, rad, unit quaternions).
      qvel: [nv] generalised velocities (m/s, rad/s).
      warmstart: [nv] solver start; part of the state, or a resumed run would differ.
      nonfinite: [] float32, 1 where the last step went wrong: the simulation diverged and was
        reset, got an input that is not finite, or ran out of contact memory.
    """

    qpos: Array
    qvel: Array
    warmstart: Array
    nonfinite: Array


class Physics(Protocol):
    """Steps one instance of a MuJoCo model as a pure function; `vmap` makes it many.

    What simulates inherits from it, and brings `step`.
    """

    model: Any
    """The compiled `mujoco.MjModel` with nominal values."""
    fields: tuple[ModelField, ...]
    num_parameters: int

    def nominal_parameters(self) -> np.ndarray:
        """Returns the model's own values of `fields`, [num_parameters] float32."""
        values = [
            getattr(self.model, name).reshape(-1)[list(indices)] for name, indices in self.fields
        ]
        return np.concatenate(values, dtype=np.float32) if values else np.zeros(0, np.float32)

    def initial_state(self, qpos: Array, qvel: Array) -> PhysicsState:
        """Starts from positions [nq] and velocities [nv]; needs no simulation."""
        return PhysicsState(
            qpos=qpos,
            qvel=qvel,
            warmstart=jnp.zeros(self.model.nv, jnp.float32),
            nonfinite=jnp.zeros((), jnp.float32),
        )

    def step(
        self,
        state: PhysicsState,
        ctrl: Array,
        force: Array,
        parameters: Array,
        num_substeps: int,
    ) -> PhysicsState:
        """Advances `num_substeps` of the model's timestep.

        Args:
          state: the state to advance.
          ctrl: [nu] held for all substeps, or [num_substeps, nu], one row for each.
          force: [6] force (N) then torque (Nm) on the body that the physics was made to push,
            in the world frame, held for all substeps.
          parameters: [num_parameters] values of `fields`.
          num_substeps: physics steps, >= 1.

        Returns:
          The state after the last substep. Works under `vmap`, nested too.

        Raises:
          UserError: `num_substeps` is below 1.
          AssertionError: an input has another shape.
        """
        ...


__all__ = ["ModelField", "Physics", "PhysicsState"]
