"""Memory of one gradient of PRDP's loss: at once, and in two passes, as the batch grows.

Usage: python -m experiments.prdp.memory

Programs are compiled for a batch of 16 x 16 images and a U-Net, and not run: the compiler says what
they allocate. `inputs` holds the trajectories themselves, `workspace` everything beside.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp

from experiments.prdp.run import RESULTS
from experiments.prdp.workloads import pictures
from hinf_rl.diffusion.gradient import table_gradient
from hinf_rl.diffusion.problem import Decisions, decision_log_prob
from hinf_rl.ops.reward_difference import reward_difference_loss
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance
from hinf_rl.types import Array, PyTree

GROUP = 8
GROUPS = (1, 2, 4, 8, 16)
MICROBATCH = 40  # divides the steps of every batch below


def compiled(groups: int, microbatch: int | None) -> Any:
    """The compiled gradient for `groups` groups of `GROUP` images."""
    problem = pictures().problem
    steps, size = problem.num_decisions, problem.model.size
    rows = groups * GROUP * steps

    def gradient(params: PyTree, rows: Decisions, fixed: Array, reward: Array) -> PyTree:
        def loss(table: Array) -> tuple[Array, None]:
            one = table.reshape(groups, GROUP, steps)
            each = jax.vmap(
                lambda lp, ref, r: reward_difference_loss(lp, ref, ref, r, beta=0.1).loss
            )
            return jnp.mean(each(one, fixed, reward)), None

        def log_prob(params: PyTree, rows: Decisions) -> Array:
            return decision_log_prob(problem.model, params, rows)

        return table_gradient(loss, log_prob, params, rows, microbatch).gradient

    def shape(*axes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(axes, dtype)

    decisions = Decisions(
        x=shape(rows, size),
        x_next=shape(rows, size),
        step=shape(rows, dtype=jnp.int32),
        condition=shape(rows, problem.context_size),
        valid=shape(rows, dtype=jnp.bool_),
    )
    params = jax.eval_shape(problem.pretrain, jax.random.key(0))
    return (
        jax.jit(gradient)
        .lower(params, decisions, shape(groups, GROUP, steps), shape(groups, GROUP))
        .compile()
    )


def main() -> None:
    """Writes results/memory.json."""
    rows = []
    for groups in GROUPS:
        for microbatch in (None, MICROBATCH):
            start_s = time.perf_counter()
            found = compiled(groups, microbatch).memory_analysis()
            rows.append(
                {
                    "images": groups * GROUP,
                    "microbatch": microbatch,
                    "inputs_mb": found.argument_size_in_bytes / 1e6,
                    "workspace_mb": found.temp_size_in_bytes / 1e6,
                    "compile_s": time.perf_counter() - start_s,
                }
            )
            print(rows[-1], flush=True)
    write_json(RESULTS / "memory.json", {"rows": rows, "provenance": provenance()})


if __name__ == "__main__":
    main()
