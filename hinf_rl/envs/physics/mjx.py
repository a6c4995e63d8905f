"""MuJoCo's JAX port (MJX) behind the same step function as the native engine: runs anywhere.

Everything is float32 on whatever device JAX runs on. Two things that MJX leaves to its caller are
done here: the constants that MuJoCo derives from a model's mass distribution follow each
environment's parameters, and an actuator at its force limit no longer damps the implicit step.
"""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

import contextlib
import functools
import io
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from hinf_rl.envs.physics import checks
from hinf_rl.envs.physics.api import ModelField, Physics, PhysicsState
from hinf_rl.envs.physics.constants import INERTIAL, derived_constants
from hinf_rl.envs.physics.settings import MjxSettings
from hinf_rl.errors import UserError
from hinf_rl.types import Array

# The engine resets a simulation with a larger number than this (its mjMAXVAL).
_MAX_VALUE = 1e10


class MjxPhysics(Physics):
    """Steps one instance of a MuJoCo model in JAX; `vmap` and `jit` do the rest.

    Args:
      model: the compiled model; its solver options are what is simulated.
      fields: the model entries that each environment may set through `parameters`, in the
        order in which `parameters` holds them.
      force_body: name of the body that the external force acts on, at its centre of mass.
      settings: the implementation, and the memory that its Warp kernels get; solver settings
        are those of `model`. None takes the defaults.

    Raises:
      UserError: MJX or Warp is not installed, MJX does not know something that the model
        uses, a field, an index or the body does not exist, a field's derived constants are
        not known here, or the model has state that `PhysicsState` does not hold.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        fields: Sequence[ModelField] = (),
        force_body: str | None = None,
        settings: MjxSettings | None = None,
    ) -> None:
        self.model = model
        self.fields = tuple(fields)
        self.num_parameters = sum(len(field.indices) for field in self.fields)
        self._body = checks.body_id(model, force_body)
        checks.check_state(model)
        self._mjx = import_mjx()
        settings = settings or MjxSettings()
        self._is_jax = settings.impl == "jax"
        self._model, self._data = _put(self._mjx, model, settings)
        known = [name for name in vars(self._model) if _can_vary(model, self._model, name)]
        for field in self.fields:
            checks.check_field(model, field, known)
            _check_constants(model, field)
        self._moves_mass = any(field.name in INERTIAL for field in self.fields)
        self._rest = _put(self._mjx, model, MjxSettings()) if self._moves_mass else None

    def step(
        self,
        state: PhysicsState,
        ctrl: Array,
        force: Array,
        parameters: Array,
        num_substeps: int,
    ) -> PhysicsState:
        """Advances the model, see `Physics.step`.

        An instance that diverged, or got an input that is not finite, is back at the model's
        reference pose, at rest, with `nonfinite` set.
        """
        checks.check_step(
            self.model,
            ctrl,
            force,
            parameters,
            num_parameters=self.num_parameters,
            num_substeps=num_substeps,
        )
        before = (state.qpos, state.qvel, state.warmstart)
        controls = jnp.broadcast_to(ctrl, (num_substeps, self.model.nu))
        with _permissive():
            model = self._with_parameters(parameters)
            substep = functools.partial(self._substep, model, force)
            after, _ = jax.lax.scan(substep, before, controls)
        given = (*before, ctrl, force, parameters)
        return self._guarded(given, after)

    def _substep(
        self, model: Any, force: Array, before: tuple[Array, ...], ctrl: Array
    ) -> tuple[tuple[Array, ...], None]:
        """One timestep; all that MJX's data holds beyond `before` is computed anew."""
        qpos, qvel, warmstart = before
        data = self._data.replace(qpos=qpos, qvel=qvel, qacc_warmstart=warmstart, ctrl=ctrl)
        if self._body is not None:
            data = data.replace(xfrc_applied=data.xfrc_applied.at[self._body].set(force))
        if self._is_jax and model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST:
            data = self._mjx.forward(model, data)
            data = self._mjx.implicit(_undamped_at_limits(model, data.actuator_force), data)
        else:
            data = self._mjx.step(model, data)
        return (data.qpos, data.qvel, data.qacc_warmstart), None

    def _with_parameters(self, parameters: Array) -> Any:
        changed: dict[str, Any] = {}
        start = 0
        for name, indices in self.fields:
            values = changed[name] if name in changed else getattr(self._model, name)
            stop = start + len(indices)
            flat = values.reshape(-1).at[np.array(indices)].set(parameters[start:stop])
            changed[name] = flat.reshape(values.shape)
            start = stop
        model = self._model.tree_replace(changed)
        if self._rest is None:
            return model
        reference = self._rest[0].tree_replace(changed)
        return model.tree_replace(derived_constants(self._mjx, reference, self._rest[1]))

    def _guarded(self, given: tuple[Array, ...], after: tuple[Array, ...]) -> PhysicsState:
        """The result where all is finite, else the reference pose at rest."""
        is_sound = jnp.array(True)
        for value in (*given, *after):
            is_sound &= jnp.all(jnp.abs(value) < _MAX_VALUE)
        rest = self.initial_state(
            jnp.asarray(self.model.qpos0, jnp.float32), jnp.zeros(self.model.nv, jnp.float32)
        )
        kept = [jnp.where(is_sound, a, b) for a, b in zip(after, rest[:3], strict=True)]
        return PhysicsState(*kept, nonfinite=1.0 - is_sound.astype(jnp.float32))


def _undamped_at_limits(model: Any, torque: Array) -> Any:
    """Without the velocity gains of actuators at their force limit.

    There the force does not depend on the velocity, and neither does the native engine's
    implicit step; MJX's would go on damping the joint.
    """
    low, high = model.actuator_forcerange[:, 0], model.actuator_forcerange[:, 1]
    is_held = model.actuator_forcelimited & ((torque <= low) | (torque >= high))
    return model.tree_replace(
        {
            name: getattr(model, name).at[:, 2].multiply(~is_held)
            for name in ("actuator_biasprm", "actuator_gainprm")
        }
    )


def _put(mjx: Any, model: mujoco.MjModel, settings: MjxSettings) -> tuple[Any, Any]:
    """MJX's model and data, as arrays that follow the other arguments to whatever device."""
    sizes = {}
    if settings.impl == "warp":
        sizes = {"naconmax": settings.warp_contacts, "njmax": settings.warp_constraints}
        _check_warp()
    try:
        put = (
            mjx.put_model(model, impl=settings.impl),
            mjx.make_data(model, impl=settings.impl, **sizes),
        )
    except NotImplementedError as error:
        raise UserError(
            f"MJX cannot simulate this model: {error}; change the model or take physics 'native'"
        ) from error
    # MJX commits its arrays to the first device.
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), put)


def _can_vary(model: mujoco.MjModel, put: Any, name: str) -> bool:
    value = getattr(put, name)
    return isinstance(value, jax.Array) and getattr(model, name, value).size == value.size


def _check_constants(model: mujoco.MjModel, field: ModelField) -> None:
    """Refuses fields from which MuJoCo derives more than `derived_constants` gives."""
    inputs = mujoco.MjModel._setconst_inputs
    muscles = (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_MUSCLE).any()
    if field.name in inputs and (field.name not in INERTIAL or model.ntendon or muscles):
        raise UserError(
            f"model field {field.name!r} cannot vary by environment on MJX: MuJoCo derives "
            "constants from it that are not computed here (tendons, muscles, geometry); take "
            "physics 'native'"
        )


def _check_warp() -> None:
    import mujoco.mjx.warp as mjx_warp

    if not mjx_warp.WARP_INSTALLED:
        raise UserError(
            "impl 'warp' needs the package warp-lang: pip install 'hinf-rl[warp]', or take "
            "impl 'jax'"
        )


def import_mjx() -> Any:
    """Imports `mujoco.mjx` without the lines that it prints where Warp is absent.

    Raises:
      UserError: it is not installed.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from mujoco import mjx
    except ImportError as error:
        raise UserError(
            "physics 'mjx' needs the package mujoco-mjx: pip install 'hinf-rl[mjx]', or take "
            "physics 'native'"
        ) from error
    return mjx


@contextlib.contextmanager
def _permissive() -> Iterator[None]:
    """MJX's own code mixes types and ranks; whoever forbids that means their own."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


__all__ = ["MjxPhysics", "import_mjx"]
