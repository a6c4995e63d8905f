"""Named tasks, algorithms as configurations of one code, and the settings of a run."""

import dataclasses
import re

import jax
import pytest

from hinf_rl.agents.hinf import make
from hinf_rl.control_tasks import ALGORITHMS, CONTROL_TASKS, apply_algorithm
from hinf_rl.envs.api import Env
from hinf_rl.errors import UserError
from hinf_rl.tasks import TASKS, configure, get_task

LIGHT = sorted(task.name for task in CONTROL_TASKS if "robot" not in task.tags)


def test_a_task_is_filed_under_its_own_name():
    assert all(task.name == name for name, task in TASKS.items())
    assert all(task.summary for task in TASKS.values())


@pytest.mark.parametrize("task", TASKS)
def test_settings_follow_from_a_name_alone(task):
    config = configure(task)
    assert config.algorithm == TASKS[task].workload.default_algorithm
    assert config.agent.iterations >= config.total_steps / config.agent.batch_size > 0


@pytest.mark.parametrize("task", LIGHT)
def test_the_recommended_settings_fit_the_task(task):
    entry = TASKS[task]
    env = entry.make_env(entry.env_config)
    assert isinstance(env, Env)
    assert entry.agent_config.num_undisturbed < entry.agent_config.num_envs
    make(entry.agent_config, env)


@pytest.mark.parametrize("task", ["cartpole", "lq"])
def test_one_iteration_of_the_recommended_settings_traces(task):
    entry = TASKS[task]
    algorithm = make(entry.agent_config, entry.make_env(entry.env_config))
    carry = jax.eval_shape(algorithm.init, jax.random.key(0))
    after, metrics = jax.eval_shape(algorithm.step, carry)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), carry
    )
    assert {"constraint/multiplier", "env/reward", "episode/return"} <= set(metrics)


EXPECTED = {
    "nominal": ("none", "task", "off", "reward"),
    "domain_randomisation": ("random", "task", "off", "reward"),
    "rarl": ("learned", "reward", "off", "reward"),
    "unconstrained": ("learned", "task", "off", "reward"),
    "hinf": ("learned", "task", "dual", "constrained"),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_differs_from_hinf_only_where_it_must(algorithm):
    base = TASKS["cartpole"].agent_config
    found = apply_algorithm(base, algorithm)
    assert EXPECTED[algorithm] == (
        found.disturbance.source,
        found.disturbance.objective,
        found.constraint.multiplier,
        found.actor_objective,
    )
    # Put these four back, and nothing else is left of it: networks, data and budget are equal.
    restored = dataclasses.replace(
        found,
        actor_objective=base.actor_objective,
        disturbance=dataclasses.replace(
            found.disturbance,
            source=base.disturbance.source,
            objective=base.disturbance.objective,
        ),
        constraint=dataclasses.replace(found.constraint, multiplier=base.constraint.multiplier),
    )
    assert restored == base
    assert found.batch_size == base.batch_size


def test_a_zero_sum_disturber_has_no_random_forces_beside_it():
    base = TASKS["cartpole"].agent_config
    mixed = dataclasses.replace(base.disturbance, random_fraction=0.25)
    base = dataclasses.replace(base, disturbance=mixed)
    assert apply_algorithm(base, "rarl").disturbance.random_fraction == 0.0
    assert apply_algorithm(base, "unconstrained").disturbance.random_fraction == 0.25


def test_a_run_lasts_as_long_as_its_steps():
    # cartpole takes 64 * 64 = 4096 steps per iteration.
    config = configure("cartpole", "hinf", {"total_steps": 10_000})
    assert (config.total_steps, config.agent.iterations) == (10_000, 3)
    config = configure("cartpole", "hinf", {"agent.iterations": 5})
    assert (config.total_steps, config.agent.iterations) == (5 * 4096, 5)
    halved = configure("cartpole", "hinf", {"total_steps": 8192, "agent.num_envs": 32})
    assert halved.agent.iterations == 4


def test_overrides_come_last_and_are_read_as_text_too():
    config = configure("cartpole", "nominal", {"agent.disturbance.source": "random"})
    assert config.algorithm == "nominal" and config.agent.disturbance.source == "random"
    assert configure("cartpole", "hinf", {"agent.gamma": "0.9"}).agent.gamma == 0.9
    # The recommended settings themselves stay as they were.
    assert TASKS["cartpole"].agent_config.disturbance.source == "learned"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: get_task("cartpol"), "unknown task 'cartpol'; did you mean 'cartpole'"),
        (lambda: configure("cartpole", "hinff"), "unknown algorithm 'hinff'; did you mean 'hinf'"),
        (lambda: configure("cartpole", "hinf", {"agent.gama": 1}), "agent.gama"),
        (lambda: configure("cartpole", "hinf", {"agent.gamma": 2.0}), "gamma must lie in (0, 1)"),
        (lambda: configure("lq", "hinf", {"env.system": "S9"}), "unknown linear system 'S9'"),
    ],
)
def test_what_is_not_known_is_named(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()
