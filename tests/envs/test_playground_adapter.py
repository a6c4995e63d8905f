"""Environments with Playground's interface as ours, and forces on their bodies."""

import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("mujoco.mjx")

from experiments.interop.point_mass import (
    ACTUATOR_N,
    MASS_KG,
    SUBSTEP_S,
    OwnPushes,
    PointMass,
)
from hinf_rl.envs.playground_adapter import (
    PlaygroundConfig,
    from_playground,
    make_playground,
    playground_names,
)
from hinf_rl.errors import UserError

FORCE = {"disturbance": "force", "body": "mass", "disturbance_limit": 5.0}


def adapted(foreign=None, **settings):
    settings = {"task_reward_max": 0.0, "check_force": False, **settings}
    return from_playground(PointMass() if foreign is None else foreign, **settings)


def gained(force_n):
    """Velocity and position after three substeps from rest, by semi-implicit Euler.

    v = h a (1 + 1 + 1) = 3 h a and x = h^2 a (1 + 2 + 3) = 6 h^2 a with a = F / m.
    """
    acceleration = force_n / MASS_KG
    return 6 * SUBSTEP_S**2 * acceleration, 3 * SUBSTEP_S * acceleration


@pytest.fixture(scope="module")
def pushed():
    return adapted(**FORCE, check_force=True)


@pytest.mark.parametrize("force_n", [3.0, -5.0])
def test_a_force_is_held_through_every_substep(pushed, force_n):
    state = pushed.reset(jax.random.key(0))
    start = np.asarray(state.observation["policy"])
    push = jnp.array([force_n, 1.0, -1.0], jnp.float32)  # the rail takes what is along y and z
    after = pushed.step(state, jnp.zeros((1,), jnp.float32), push)
    moved = np.asarray(after.observation["policy"]) - start
    np.testing.assert_allclose(moved, gained(force_n), rtol=1e-4)
    # The force is not kept beyond its step: the second one glides.
    glide = pushed.step(after, jnp.zeros((1,), jnp.float32))
    np.testing.assert_allclose(glide.observation["policy"][1], gained(force_n)[1], rtol=1e-5)
    # What the environment shows to the critic comes first, then our push over its limit.
    np.testing.assert_allclose(after.observation["privileged"][2], force_n)
    np.testing.assert_allclose(after.observation["privileged"][3:], push / 5.0)


def test_the_action_channel_is_the_fallback():
    env = adapted(OwnPushes(), disturbance_limit=0.5)
    state = env.reset(jax.random.key(0))
    start = np.asarray(state.observation["policy"])
    after = env.step(state, jnp.array([7.0], jnp.float32), jnp.array([-0.25], jnp.float32))
    moved = np.asarray(after.observation["policy"]) - start
    np.testing.assert_allclose(moved, gained(ACTUATOR_N * 0.75), rtol=1e-4)
    assert env.spec.disturbance.unit == "action"


def test_a_metric_is_the_task_reward_and_the_given_state_is_not_written_to():
    env = adapted(task_reward="reward/position")
    before = env.reset(jax.random.key(0))
    state = env.step(before, jnp.ones((1,), jnp.float32))
    x, v = (float(n) for n in state.observation["policy"])
    np.testing.assert_allclose(state.task_reward, -(x**2), rtol=1e-5)
    np.testing.assert_allclose(state.reward, -(x**2) - 0.1 * v**2 - 1.2, rtol=1e-5)
    assert [int(s.physics.state.info["steps"]) for s in (before, state)] == [0, 1]
    assert float(before.metrics["reward/position"]) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: from_playground(PointMass()), "set task_reward_max"),
        (
            lambda: adapted(OwnPushes(), **FORCE, check_force=True),
            "overwrites forces on bodies (xfrc_applied)",
        ),
        (lambda: adapted(**{**FORCE, "body": "mas"}), "did you mean 'mass'"),
        (lambda: adapted(disturbance="force"), "needs a body: one of mass, anchor"),
        (
            lambda: adapted(**{**FORCE, "body": "anchor"}, check_force=True),
            "a force on body 'anchor' of playground:PointMass moves nothing",
        ),
        (lambda: adapted(policy_key="stat"), "did you mean 'state'"),
        (lambda: from_playground(3), "lacks reset, step, action_size, mj_model"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()


def test_names_need_playground(monkeypatch):
    with pytest.raises(UserError, match=r"mujoco_playground is not installed.*from_playground"):
        from_playground("Go1JoystickFlatTerrain")
    # With it, environments come from its registry.
    package = types.ModuleType("mujoco_playground")
    package.registry = types.SimpleNamespace(ALL_ENVS=("PointMass",), load=lambda _: PointMass())
    monkeypatch.setitem(__import__("sys").modules, "mujoco_playground", package)
    assert playground_names() == ["PointMass"]
    config = PlaygroundConfig(name="PointMass", task_reward_max=0.0)
    assert make_playground(config).spec.name == "playground:PointMass"
    with pytest.raises(UserError, match="did you mean 'PointMass'"):
        from_playground("PointMas", task_reward_max=0.0)
