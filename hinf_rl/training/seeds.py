"""Whether the members of a training compute side by side or in turn.

Both compute the same up to the last bits, on one carry with the same checkpoints. Side by side
(`vmap`) fills a large device; in turn (`lax.map`) computes each member as if it were alone,
with what the cache holds and without both sides of each branch. Which is faster depends on the
task and the machine, and finding out costs a second compilation: it is done where asked for.
"""

import time
from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.training.checkpoint import available_steps
from hinf_rl.training.compiled import Compiled, Order
from hinf_rl.training.processes import on_first
from hinf_rl.training.run_directory import RunDirectory
from hinf_rl.types import PyTree

Choice: TypeAlias = Literal["vmapped", "sequential", "probe"]
"""An order, or leave to find out which is faster."""

# A difference below the noise of a busy machine does not decide.
_MARGIN = 0.9
# The second compilation may cost this share of the time that the run is going to take.
_AFFORDABLE = 0.1
_ROUNDS = 3


def settle(asked: Choice | None, run: RunDirectory | None, *, resume: bool) -> Choice:
    """Returns how the members compute; a run goes on as it began, to stay exact to the bit.

    Args:
      asked: what the user wants, None what there is.
      run: the run directory, if any.
      resume: whether its checkpoints are gone on with.

    Raises:
      UserError: the run began the other way.
    """
    if run is None or not resume or not is_begun(run):
        return asked or "vmapped"
    kept: Order = on_first(lambda: run.seed_order)
    if asked not in (None, "probe", kept):
        raise UserError(
            f"{run.path} was begun with --seed-order {kept}, not {asked}; leave the option out, or "
            "choose another --output"
        )
    return kept


def is_begun(run: RunDirectory) -> bool:
    """Whether a run has a checkpoint to go on from; the first process looks."""
    return on_first(lambda: bool(available_steps(run.checkpoints)))


def probe(
    build: Callable[[Order], Compiled],
    carry: PyTree,
    *,
    iterations: int,
    note: Callable[[str], None],
) -> Compiled:
    """Times an iteration each way and says what it chose, and why.

    Args:
      build: compiles the call for an order.
      carry: stays as it is: copies are trained.
      iterations: how many are ahead.
      note: receives the one line that says why.
    """
    vmapped = build("vmapped")
    ahead_s = iterations * _iteration_s([vmapped], carry)[0]
    if vmapped.compile_s > _AFFORDABLE * ahead_s:
        note(
            f"seeds vmapped: compiling a second way (some {vmapped.compile_s:.0f} s) is too dear "
            f"for a run of {ahead_s:.0f} s"
        )
        return vmapped
    sequential = build("sequential")
    vmapped_s, sequential_s = _iteration_s([vmapped, sequential], carry)
    chosen = sequential if sequential_s < _MARGIN * vmapped_s else vmapped
    note(
        f"seeds {chosen.order}: an iteration takes {vmapped_s:.3g} s vmapped, {sequential_s:.3g} s "
        "sequential"
    )
    return chosen._replace(compile_s=vmapped.compile_s + sequential.compile_s)


def _iteration_s(sides: list[Compiled], carry: PyTree) -> list[float]:
    """Least seconds of an iteration; the sides take turns, and the first round only warms up."""
    least = [float("inf")] * len(sides)
    for turn in range(1 + _ROUNDS):
        for i, side in enumerate(sides):
            copy = jax.block_until_ready(jax.tree.map(jnp.copy, carry))
            start_s = time.perf_counter()
            jax.block_until_ready(side.call(copy, np.int32(1)))
            if turn:
                least[i] = min(least[i], time.perf_counter() - start_s)
    return least


__all__ = ["Choice", "is_begun", "probe", "settle"]
