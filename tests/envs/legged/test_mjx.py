import dataclasses
import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.envs.legged.config import VelocityConfig
from hinf_rl.envs.legged.velocity import VelocityEnv
from hinf_rl.envs.physics.settings import MjxSettings
from hinf_rl.errors import UserError
from hinf_rl.tasks import configure, get_task

if importlib.util.find_spec("mujoco.mjx") is None:
    pytest.skip("needs mujoco-mjx", allow_module_level=True)

ROWS = 8
# The task's own physics steps, every parameter and noise drawn by the same keys.
NATIVE = dataclasses.replace(get_task("a1").env_config, randomise=True)
MJX = dataclasses.replace(NATIVE, physics="mjx")


@functools.cache
def step_of(config):
    return jax.jit(jax.vmap(VelocityEnv(config).step))


@functools.cache
def on_the_ground():
    """States after 0.2 s of random actions under a push, when feet are on the ground."""
    state = jax.jit(jax.vmap(VelocityEnv(NATIVE).reset))(jax.random.split(jax.random.key(0), ROWS))
    for index in range(10):
        state = step_of(NATIVE)(state, *given(index))
    assert state.physics.in_contact.sum() > ROWS
    return state


def given(index):
    """The actions and forces of one step."""
    action = 0.5 * jax.random.normal(jax.random.key(index), (ROWS, 12), jnp.float32)
    return action, jnp.tile(jnp.array([[20.0, -10.0, 5.0]], jnp.float32), (ROWS, 1))


def assert_alike(found, expected, scale):
    """Two states of the task whose speeds differ by `scale` (m/s, rad/s)."""
    np.testing.assert_allclose(found.physics.qpos, expected.physics.qpos, atol=0.02 * scale)
    np.testing.assert_allclose(found.physics.qvel, expected.physics.qvel, atol=scale)
    # Observations scale speeds by at most 2.
    for name, value in expected.observation.items():
        np.testing.assert_allclose(found.observation[name], value, atol=2 * scale, err_msg=name)
    # Tracking falls by at most 2 / sqrt(2 e width) = 1.7 per m/s and s; the others are weaker.
    np.testing.assert_allclose(found.task_reward, expected.task_reward, atol=0.05 * scale)
    np.testing.assert_allclose(found.reward, expected.reward, atol=0.2 * scale)
    np.testing.assert_array_equal(found.metrics["nonfinite"], expected.metrics["nonfinite"])


@pytest.mark.slow
def test_the_task_looks_and_pays_the_same_on_both_physics():
    native = mjx = on_the_ground()
    for index in range(4):
        native = step_of(NATIVE)(native, *given(20 + index))
        mjx = step_of(MJX)(mjx, *given(20 + index))
        assert_alike(mjx, native, 5e-3 * 3.0**index)
    assert step_of(MJX)._cache_size() == 1


def test_physics_is_a_setting_of_the_task():
    overrides = {
        "env.physics": "mjx",
        "env.mjx.iterations": "7",
        "env.mjx.ls_iterations": "9",
        "env.mjx.integrator": "Euler",
        "env.mjx.max_contact_points": "4",
    }
    env = get_task("aliengo").make_env(configure("aliengo", overrides=overrides).env)
    assert (env.model.opt.iterations, env.model.opt.ls_iterations) == (7, 9)
    assert env.model.opt.integrator == 0  # Euler
    assert env.model.numeric("max_contact_points").data == [4]
    assert type(env.physics).__name__ == "MjxPhysics"
    native = VelocityEnv(VelocityConfig(mjx=MjxSettings(iterations=7, max_contact_points=4)))
    assert type(native.physics).__name__ == "NativePhysics"
    assert (native.model.opt.iterations, native.model.nnumeric) == (100, 0)
    with pytest.raises(UserError, match="unknown physics 'mjxx'; did you mean 'mjx'"):
        VelocityConfig(physics="mjxx")
