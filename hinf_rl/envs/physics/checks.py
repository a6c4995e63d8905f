"""What every physics asks of a model and of the arguments of a step."""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

import difflib
from collections.abc import Collection

import chex
import mujoco

from hinf_rl.envs.physics.api import ModelField
from hinf_rl.errors import UserError
from hinf_rl.types import Array

# State that a step may change and `PhysicsState` does not hold.
_HIDDEN_STATE = (
    mujoco.mjtState.mjSTATE_ACT.value
    | mujoco.mjtState.mjSTATE_HISTORY.value
    | mujoco.mjtState.mjSTATE_PLUGIN.value
    | mujoco.mjtState.mjSTATE_PLASTIC.value
)


def body_id(model: mujoco.MjModel, name: str | None) -> int | None:
    """Returns the index of the body to push, None for none.

    Raises:
      UserError: there is no such body.
    """
    if name is None:
        return None
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if index < 0:
        raise UserError(f"the model has no body named {name!r} to push")
    return index


def check_state(model: mujoco.MjModel) -> None:
    """Refuses models whose state is more than `PhysicsState` holds.

    Raises:
      UserError: the model has such state.
    """
    if mujoco.mj_stateSize(model, _HIDDEN_STATE):
        raise UserError(
            "the model has state beyond positions and velocities (actuator activations, delays or "
            "plugins), which would be lost between steps; use actuators and sensors without it"
        )


def check_field(model: mujoco.MjModel, field: ModelField, known: Collection[str]) -> None:
    """Refuses a field that is not among `known`, and indices outside of it.

    Raises:
      UserError: naming the field, and the nearest known one or the range.
    """
    if field.name not in known:
        near = difflib.get_close_matches(field.name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"no field {field.name!r} of a MuJoCo model can vary by environment{hint}")
    size = getattr(model, field.name).size
    if not field.indices or min(field.indices) < 0 or max(field.indices) >= size:
        raise UserError(
            f"indices of model field {field.name!r} must lie in [0, {size}), got {field.indices}"
        )


def check_step(
    model: mujoco.MjModel,
    ctrl: Array,
    force: Array,
    parameters: Array,
    *,
    num_parameters: int,
    num_substeps: int,
) -> None:
    """Checks the shapes of a step's arguments.

    Raises:
      UserError: `num_substeps` is below 1.
      AssertionError: an input has another shape.
    """
    if num_substeps < 1:
        raise UserError(f"num_substeps must be at least 1, got {num_substeps}")
    chex.assert_shape(ctrl, ((num_substeps,) if ctrl.ndim == 2 else ()) + (model.nu,))
    chex.assert_shape(force, (6,))
    chex.assert_shape(parameters, (num_parameters,))


__all__ = ["body_id", "check_field", "check_state", "check_step"]
