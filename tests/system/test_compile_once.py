"""A training is compiled once, and its memory does not grow."""

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import memory
from experiments.benchmarks.timing import alternate, ratio
from hinf_rl.agents.hinf import make
from hinf_rl.tasks import configure, get_task
from hinf_rl.training import loop


def small(task, **changes):
    settings = {
        "agent.iterations": 7,
        "agent.num_envs": 8,
        "agent.unroll_length": 4,
        "agent.num_epochs": 1,
        "agent.num_minibatches": 2,
    }
    config = configure(task, "hinf", settings | changes)
    return make(config.agent, get_task(task).make_env(config.env))


def test_strides_and_seeds_share_one_compilation():
    with memory.count_compilations() as names:
        loop.train(
            small("pendulum"),
            iterations=7,
            keys=loop.seed_keys(0, 2),
            log_every=3,
            checkpoint_every=2,  # strides of 2, 1, 1, 2 and 1
        )
    assert sum("call" in name for name in names) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "iterations"),
    [("cartpole", 300), pytest.param("aliengo", 120, marks=pytest.mark.long)],
)
def test_many_iterations_compile_once_and_hold_their_memory(task, iterations):
    found = memory.measure(task, iterations)
    assert found["compilations_of_step"] == 1
    assert found["compilations_after_first_call"] == 0
    # A leak of one rollout (32 environments, 8 steps, 100 floats) would be 100 kB.
    assert found["slope_kb_per_iteration"] < 10.0


def test_compilations_are_counted():
    jax.jit(lambda x: x + 1)(jnp.float32(1))
    with memory.count_compilations() as names:
        compiled = jax.jit(lambda x: x * 3 - 2)
        compiled(jnp.zeros(3, jnp.float32))
        first = len(names)
        compiled(jnp.ones(3, jnp.float32))
        assert len(names) == first >= 1
        compiled(jnp.ones(4, jnp.float32))
        assert len(names) > first
    seen = len(names)
    jax.jit(lambda x: x * 5 - 2)(jnp.float32(0))
    assert len(names) == seen


def test_a_slope_is_the_growth_per_entry():
    assert memory.slope([5, 8, 11, 14]) == pytest.approx(3.0)
    assert memory.slope([7, 7, 7]) == pytest.approx(0.0)


def test_sides_take_turns():
    calls = []
    sides = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = alternate(sides, 3)
    # One run to warm up, then turned round every other time.
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(found) for name, found in seconds.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_of_neighbours():
    # 2/1, 9/3 and 4/4: median 2, from 1 to 3.
    assert ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
