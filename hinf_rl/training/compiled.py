"""The compiled call: a traced number of iterations in one program, their metrics reduced inside."""

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hinf_rl.partition import SEEDS
from hinf_rl.training import sharding
from hinf_rl.types import Array, Metrics, PyTree

Call: TypeAlias = Callable[[PyTree, np.int32], tuple[PyTree, Metrics]]
"""(carry, number of iterations) to the carry after them and their mean metrics."""
Order: TypeAlias = Literal["vmapped", "sequential"]
"""Whether seeds compute side by side or in turn."""
Step: TypeAlias = Callable[[PyTree], tuple[PyTree, Metrics]]
"""An algorithm's iteration."""


class Compiled(NamedTuple):
    """A compiled call.

    Attributes:
      call: `call(carry, count) -> (carry, metrics)`; the carry is donated.
      order: how several seeds compute in it.
      compile_s: seconds that compilation took, of what was not chosen too.
    """

    call: Call
    order: Order
    compile_s: float


def for_seeds(function: Callable[..., Any], order: Order, mesh: Mesh | None) -> Callable[..., Any]:
    """Makes a function of one member one of all, whose leaves have a leading axis of seeds.

    Args:
      function: of one member.
      order: "vmapped" computes all members at once (`vmap`), "sequential" one after the
        other, each as if it were alone.
      mesh: whose SEEDS axis the members spread over.
    """
    if order == "sequential":
        return lambda *arguments: jax.lax.map(lambda member: function(*member), arguments)
    return jax.vmap(function, spmd_axis_name=None if mesh is None else SEEDS)


def compile_call(
    step: Step,
    carry: PyTree,
    order: Order = "vmapped",
    *,
    mesh: Mesh | None = None,
    shardings: PyTree = None,
) -> Compiled:
    """Compiles many iterations ahead of time.

    Args:
      step: of all members.
      carry: as the first call gets it.
      order: how `step` computes several seeds.
      mesh: of the devices, None for one.
      shardings: where the carry lies on them; it comes back to the same places.
    """
    start_s = time.perf_counter()
    # An inner jit keeps the trace, so that asking for shapes does not trace a second time.
    one = jax.jit(step)

    def call(carry: PyTree, count: Array) -> tuple[PyTree, Metrics]:
        carry_after, shapes = jax.eval_shape(one, carry)
        _check_same(carry, carry_after)
        start = {
            name: jnp.full(value.shape, -jnp.inf if _is_max(name) else 0.0, jnp.float32)
            for name, value in shapes.items()
        }

        def body(_: Array, state: tuple[PyTree, Metrics]) -> tuple[PyTree, Metrics]:
            carry, totals = state
            carry, metrics = one(carry)
            return strong(carry), {
                name: _accumulate(name, total, metrics[name]) for name, total in totals.items()
            }

        carry, totals = jax.lax.fori_loop(0, count, body, (carry, start))
        scale = 1.0 / count.astype(jnp.float32)
        return carry, {
            name: total * scale if _is_mean(name) else total for name, total in totals.items()
        }

    places: dict[str, Any] = {}
    if mesh is not None:
        everywhere = sharding.replicated(mesh)
        places = {
            "in_shardings": (shardings, everywhere),
            "out_shardings": (shardings, everywhere),
        }
    with sharding.tracing(mesh):
        compiled = jax.jit(call, donate_argnums=0, **places).lower(carry, np.int32(1)).compile()
    return Compiled(compiled, order, time.perf_counter() - start_s)


def strong(tree: PyTree) -> PyTree:
    """Returns the tree with weak types made strong, so that carry in equals carry out."""

    def one(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        return jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(one, tree)


def is_count(name: str) -> bool:
    """Counts of rare events are summed: a mean over a stride would hide them."""
    return name.rpartition("/")[2].startswith("nonfinite_")


def _accumulate(name: str, total: Array, value: Array) -> Array:
    value = value.astype(jnp.float32)
    return jnp.maximum(total, value) if _is_max(name) else total + value


def _is_max(name: str) -> bool:
    return name.endswith("_max")


def _is_mean(name: str) -> bool:
    return not _is_max(name) and not is_count(name)


def _check_same(before: PyTree, after: PyTree) -> None:
    """Names the first leaf that a step gives back with another shape or type."""
    left, right = (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (before, after))
    for (path, old), (path_after, new) in zip(left, right, strict=False):
        if path != path_after or old.shape != new.shape or old.dtype != new.dtype:
            name = jax.tree_util.keystr(path)
            raise TypeError(
                f"step must return the carry that it was given: {name} went in as "
                f"{old.dtype}{list(old.shape)} and came out as {new.dtype}{list(new.shape)} "
                f"at {jax.tree_util.keystr(path_after)}"
            )
    if len(left) != len(right):
        raise TypeError(f"step was given a carry of {len(left)} leaves and returned {len(right)}")


__all__ = ["Call", "Compiled", "Order", "Step", "compile_call", "for_seeds", "is_count", "strong"]
