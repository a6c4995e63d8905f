"""Native MuJoCo physics inside JAX: a threaded batch behind one callback.

The step is a pure function of its arguments: what the host side keeps (a `mujoco.batch.Batch`
and the parameter rows last written to it) is a cache that never changes a result. Results are
bit-identical at any thread count.
"""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

import contextlib
import functools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from mujoco.batch import MODEL_FIELDS, Batch

from hinf_rl.envs.physics import checks
from hinf_rl.envs.physics.api import ModelField, Physics, PhysicsState
from hinf_rl.types import Array

# Batches of different sizes that one physics keeps; training and evaluation need a few.
_MAX_BATCHES = 8
# The engine's log settings belong to the process, so steps take turns; each uses all threads.
_ENGINE = threading.Lock()


class NativePhysics(Physics):
    """Steps many instances of one MuJoCo model on the CPU's threads.

    Args:
      model: the compiled model.
      fields: the model entries that each environment may set through `parameters`, in the
        order in which `parameters` holds them.
      force_body: name of the body that the external force acts on, at its centre of mass.
      num_threads: simulation threads; 0 uses all cores.

    Raises:
      UserError: a field, an index or the body does not exist, or the model has state that
        `PhysicsState` does not hold.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        fields: Sequence[ModelField] = (),
        force_body: str | None = None,
        num_threads: int = 0,
    ) -> None:
        self.model = model
        self.fields = tuple(fields)
        self.num_parameters = sum(len(field.indices) for field in self.fields)
        self._body = checks.body_id(model, force_body)
        self._num_threads = num_threads
        checks.check_state(model)
        known = [name for name in MODEL_FIELDS if "." not in name]
        for field in self.fields:
            checks.check_field(model, field, known)
        self._batches: OrderedDict[int, _HostBatch] = OrderedDict()

    def step(
        self,
        state: PhysicsState,
        ctrl: Array,
        force: Array,
        parameters: Array,
        num_substeps: int,
    ) -> PhysicsState:
        """Advances the model, see `Physics.step`; leading axes are flattened into one batch."""
        checks.check_step(
            self.model,
            ctrl,
            force,
            parameters,
            num_parameters=self.num_parameters,
            num_substeps=num_substeps,
        )
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), state)

        def in_place(context: Any, out: PhysicsState, *arguments: Any) -> None:
            del context
            result = self._host_step(num_substeps, *map(np.asarray, arguments))
            for target, value in zip(out, result, strict=True):
                np.asarray(target)[...] = value

        def copied(*arguments: Any) -> PhysicsState:
            return PhysicsState(*self._host_step(num_substeps, *map(np.asarray, arguments)))

        arguments = (state.qpos, state.qvel, state.warmstart, ctrl, force, parameters)
        # On a CPU the callback works on XLA's own buffers. `pure_callback` would copy them into
        # new arrays on XLA's thread pool, which waits for this very callback: with few cores and
        # thousands of rows that is a deadlock. Accelerators need the copy to the host.
        return jax.lax.platform_dependent(
            *arguments,
            cpu=buffer_callback(in_place, shapes, vmap_method="broadcast_all"),
            default=functools.partial(
                jax.pure_callback, copied, shapes, vmap_method="broadcast_all"
            ),
        )

    def _host_step(self, num_substeps: int, *arguments: np.ndarray) -> list[Any]:
        """Steps arrays with any leading axes as one batch."""
        lead = arguments[0].shape[:-1]
        count = int(np.prod(lead, dtype=np.int64))
        rows = [array.reshape((count, *array.shape[len(lead) :])) for array in arguments]
        with _ENGINE, _quiet():
            result = self._batch(count).step(num_substeps, *rows)
        return [leaf.reshape(lead + leaf.shape[1:]) for leaf in result]

    def _batch(self, count: int) -> "_HostBatch":
        """The batch of `count` rows; the one unused for longest makes room for a new one."""
        if count not in self._batches:
            self._batches[count] = _HostBatch(self, count)
        self._batches.move_to_end(count)
        if len(self._batches) > _MAX_BATCHES:
            self._batches.popitem(last=False)
        return self._batches[count]


class _HostBatch:
    """A `Batch` of one size with its bound arrays and the parameters last written to it."""

    def __init__(self, physics: NativePhysics, count: int) -> None:
        self._batch = Batch(physics.model, count, physics._num_threads)
        self._qpos = self._batch.bind("qpos")
        self._qvel = self._batch.bind("qvel")
        self._warmstart = self._batch.bind("qacc_warmstart")
        self._ctrl = self._batch.bind("ctrl")
        self._force = (
            None if physics._body is None else self._batch.bind("xfrc_applied")[:, physics._body]
        )
        self._targets = []
        start = 0
        for field in physics.fields:
            stop = start + len(field.indices)
            values = self._batch.expand(field.name).reshape(count, -1)
            self._targets.append((values, list(field.indices), slice(start, stop)))
            start = stop
        self._needs_constants = any(
            field.name in mujoco.MjModel._setconst_inputs for field in physics.fields
        )
        # Every row starts from float32 parameters and constants derived from them, nominal or
        # not: else a row's result would depend on what it held before.
        nominal = physics.nominal_parameters()
        self._written = np.full((count, nominal.size), np.nan, np.float32)
        self._write_parameters(np.broadcast_to(nominal, self._written.shape))

    def step(
        self,
        num_substeps: int,
        qpos: np.ndarray,
        qvel: np.ndarray,
        warmstart: np.ndarray,
        ctrl: np.ndarray,
        force: np.ndarray,
        parameters: np.ndarray,
    ) -> tuple[np.ndarray, ...]:
        self._write_parameters(parameters)
        self._qpos[:], self._qvel[:], self._warmstart[:] = qpos, qvel, warmstart
        if self._force is not None:
            self._force[:] = force
        # The engine resets a diverged simulation's counter with it: only a cleared one can tell.
        self._batch.warning[:] = 0
        if ctrl.ndim == 2:
            self._ctrl[:] = ctrl
            self._batch.step(nstep=num_substeps)
        else:
            for substep in range(num_substeps):
                self._ctrl[:] = ctrl[:, substep]
                self._batch.step()
        warned = self._batch.warning[:, :, 1].any(axis=1)
        return (
            self._qpos.astype(np.float32),
            self._qvel.astype(np.float32),
            self._warmstart.astype(np.float32),
            warned.astype(np.float32),
        )

    def _write_parameters(self, parameters: np.ndarray) -> None:
        changed = np.flatnonzero((parameters != self._written).any(axis=1))
        if not changed.size:
            return
        self._written[changed] = parameters[changed]
        for values, indices, span in self._targets:
            values[np.ix_(changed, indices)] = parameters[changed, span]
        if self._needs_constants:
            self._batch.set_const(changed.astype(np.int32))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the engine's warnings off the terminal and out of a file in the user's directory.

    They reach the caller as `nonfinite`. The settings are the process's own, so they are put
    back after the step; enter it with `_ENGINE` held.
    """
    before, silent = mujoco.MjLogConfig.get(), mujoco.MjLogConfig.get()
    silent.logto_console = silent.logto_file = False
    mujoco.MjLogConfig.set(silent)
    try:
        yield
    finally:
        mujoco.MjLogConfig.set(before)


__all__ = ["NativePhysics"]
