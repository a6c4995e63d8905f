"""One contract for every environment: add a case to `CASES` and it is held to all of it."""

import dataclasses
import importlib.util
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.envs import (
    PROBES,
    ActionDisturbanceWrapper,
    BatchEnv,
    CartPole,
    CartPoleConfig,
    Env,
    HistoryWrapper,
    Pendulum,
    PendulumConfig,
    State,
)
from hinf_rl.envs.legged.config import VelocityConfig
from hinf_rl.envs.legged.hind_config import HindLegsConfig
from hinf_rl.envs.legged.hind_legs import HindLegsEnv
from hinf_rl.envs.legged.robots import A1
from hinf_rl.envs.legged.velocity import VelocityEnv
from hinf_rl.envs.lq import LQEnv
from hinf_rl.ops.riccati import SYSTEMS


@dataclasses.dataclass(frozen=True)
class Case:
    """An environment under the contract.

    `mirror_physics` maps a state's physics to its mirror image; give it with every environment
    whose spec has a mirror. `tolerance` bounds how far vmap may differ from a loop, and a
    mirrored step from the mirror image of the step. `exact_mirror` is False where noise or an
    uneven body lets the mirror hold on average only.
    """

    make: Callable[[], Env]
    mirror_physics: Callable | None = None
    tolerance: float = 1e-5
    exact_mirror: bool = True
    num_envs: int = 3
    num_steps: int = 12


def negate(physics):
    return jax.tree.map(jnp.negative, physics)


def negate_sign(physics):
    return {**physics, "observation": -physics["observation"]}


def even_quadruped():
    """A1 with its trunk's mass in the sagittal plane, so that left and right are alike."""
    (x, _, z), (xx, yy, zz, _, xz, _) = A1.trunk.com, A1.trunk.inertia
    trunk = dataclasses.replace(A1.trunk, com=(x, 0.0, z), inertia=(xx, yy, zz, 0.0, xz, 0.0))
    config = VelocityConfig(robot="a1", randomise=False)
    return VelocityEnv(config, robot=dataclasses.replace(A1, trunk=trunk))


def mirror_quadruped(physics):
    """y, the turns about x and z, and the hip angles change sign; legs change sides."""
    root = jnp.array([1, -1, 1, 1, -1, 1, -1], jnp.float32)
    twist = jnp.array([1, -1, 1, -1, 1, -1], jnp.float32)
    polar = jnp.array([1, -1, 1], jnp.float32)
    flip = jnp.array([[-1, 1, 1]], jnp.float32)
    other_side = jnp.array([1, 0, 3, 2], jnp.int32)

    def legs(x):
        return (x.reshape(4, 3)[other_side] * flip).reshape(12)

    old = physics.simulation
    simulation = old._replace(
        qpos=jnp.concatenate([root * old.qpos[:7], legs(old.qpos[7:])]),
        qvel=jnp.concatenate([twist * old.qvel[:6], legs(old.qvel[6:])]),
        warmstart=jnp.concatenate([twist * old.warmstart[:6], legs(old.warmstart[6:])]),
    )
    return physics._replace(
        simulation=simulation,
        command=physics.command * jnp.array([1, -1, -1], jnp.float32),
        heading=-physics.heading,
        action=legs(physics.action),
        previous_action=legs(physics.previous_action),
        air_time=physics.air_time[other_side],
        in_contact=physics.in_contact[other_side],
        force=polar * physics.force,
    )


def brax():
    from hinf_rl.envs.brax_adapter import from_brax

    # The one without physics: it pays for its position, and moves where the action is positive.
    return from_brax("fast", dt_s=0.02, task_reward_max=1.0, disturbance_limit=4.0)


def playground():
    from experiments.interop.point_mass import PointMass
    from hinf_rl.envs.playground_adapter import from_playground

    push = {"disturbance": "force", "body": "mass", "axes": "x", "disturbance_limit": 5.0}
    return from_playground(PointMass(), task_reward_max=0.0, **push)


def gymnax(name, limit):
    from hinf_rl.envs.gymnax_adapter import from_gymnax

    return from_gymnax(name, disturbance_limit=limit)


# The package that an adapter needs, and its cases.
ADAPTED = {
    "brax": {"brax": Case(brax)},
    "mujoco.mjx": {"playground_force": Case(playground)},
    "gymnax": {
        "gymnax_box": Case(lambda: gymnax("Pendulum-v1", 0.5)),
        # A push must be able to turn a choice over.
        "gymnax_discrete": Case(lambda: gymnax("CartPole-v1", 4.0)),
    },
}


CASES = {
    "cart_pole": Case(CartPole, negate),
    "cart_pole_randomised": Case(lambda: CartPole(CartPoleConfig(randomise=True)), negate),
    "cart_pole_history": Case(lambda: HistoryWrapper(CartPole(), 3), negate),
    "cart_pole_action": Case(lambda: ActionDisturbanceWrapper(CartPole(), 0.2), negate),
    # Its exact mirror is tested with the task.
    "hind_legs": Case(lambda: HindLegsEnv(HindLegsConfig()), tolerance=1e-3, exact_mirror=False),
    "lq": Case(lambda: LQEnv(SYSTEMS["S2"])),
    "pendulum": Case(Pendulum, negate),
    "pendulum_randomised": Case(lambda: Pendulum(PendulumConfig(randomise=True)), negate),
    "quadruped": Case(even_quadruped, mirror_quadruped, tolerance=1e-3),
    "quadruped_randomised": Case(
        lambda: HistoryWrapper(VelocityEnv(VelocityConfig()), 6),
        tolerance=1e-3,
        exact_mirror=False,
    ),
    **{
        f"probe_{name}": Case(lambda probe=probe: probe, negate_sign)
        for name, probe in PROBES.items()
    },
    **{
        name: case
        for package, cases in ADAPTED.items()
        if importlib.util.find_spec(package) is not None
        for name, case in cases.items()
    },
}


@pytest.fixture(params=sorted(CASES), scope="module")
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def env(case) -> Env:
    return case.make()


# Compiled once per case: without `jit` every operation of a robot's reset compiles by itself.
@pytest.fixture(scope="module")
def reset(env):
    return jax.jit(env.reset)


@pytest.fixture(scope="module")
def step(env):
    return jax.jit(env.step)


def plain(tree):
    """Typed keys as numbers, for comparison."""
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        tree,
    )


def inputs(env, key, *shape):
    """Random actions about as large as a fresh policy's, and disturbances within the limit."""
    key_action, key_push = jax.random.split(key)
    disturbance = env.spec.disturbance
    action = 0.5 * jax.random.normal(key_action, (*shape, env.spec.action_size), jnp.float32)
    push = jax.random.uniform(key_push, (*shape, disturbance.size), jnp.float32, -1.0, 1.0)
    largest = min(disturbance.limit, 1e3) / max(1, disturbance.size) ** 0.5
    return action, largest * push


def types(tree):
    """Structure, and shape, dtype and weakness of every leaf."""
    leaves = [
        (x.shape, str(x.dtype), getattr(x, "weak_type", False)) for x in jax.tree.leaves(tree)
    ]
    return leaves, jax.tree.structure(tree)


def test_keeps_the_protocol(env):
    assert isinstance(env, Env)
    assert env.spec == env.spec


def test_sizes_and_types_are_those_of_the_spec(env):
    state = jax.eval_shape(env.reset, jax.random.key(0))
    action, push = jax.eval_shape(lambda k: inputs(env, k), jax.random.key(0))
    stepped = jax.eval_shape(env.step, state, action, push)
    for s in (state, stepped):
        assert isinstance(s, State)
        assert s.observation["policy"].shape == (env.spec.policy_size,)
        assert s.observation["privileged"].shape == (env.spec.privileged_size,)
        for x in (*s.observation.values(), s.reward, s.task_reward, *s.metrics.values()):
            assert x.dtype == jnp.float32
        for x in (s.terminated, s.truncated):
            assert x.dtype == jnp.bool_
        for x in (s.reward, s.task_reward, s.terminated, s.truncated, *s.metrics.values()):
            assert x.shape == ()


def test_reset_and_both_kinds_of_step_have_the_same_types(env):
    state = jax.eval_shape(env.reset, jax.random.key(0))
    action, push = jax.eval_shape(lambda k: inputs(env, k), jax.random.key(0))
    assert types(jax.eval_shape(env.step, state, action, push)) == types(state)
    assert types(jax.eval_shape(env.step, state, action)) == types(state)
    assert not any(x.weak_type for x in jax.tree.leaves(state) if hasattr(x, "weak_type"))


def test_reset_is_a_function_of_the_key(reset):
    chex.assert_trees_all_equal(plain(reset(jax.random.key(3))), plain(reset(jax.random.key(3))))
    state = reset(jax.random.key(3))
    assert not np.array_equal(
        jax.random.key_data(state.key), jax.random.key_data(jax.random.key(3))
    ), "the given key is consumed: the state must own another one"
    assert not bool(state.terminated) and not bool(state.truncated)


def test_step_is_a_function_of_its_arguments(env, reset, step):
    state = reset(jax.random.key(0))
    action, push = inputs(env, jax.random.key(1))
    before = plain(state)
    first = plain(step(state, action, push))
    chex.assert_trees_all_equal(first, plain(step(state, action, push)))
    chex.assert_trees_all_equal(before, plain(state))


def test_no_disturbance_equals_zeros(env, reset, step):
    state = reset(jax.random.key(0))
    action, push = inputs(env, jax.random.key(1))
    chex.assert_trees_all_close(
        plain(step(state, action, None)),
        plain(step(state, action, jnp.zeros_like(push))),
        atol=1e-6,
    )


def test_disturbance_is_felt(env, reset, step):
    if env.spec.disturbance.size == 0:
        return
    state = reset(jax.random.key(0))
    action, push = inputs(env, jax.random.key(1))
    with_push, without = step(state, action, push), step(state, action, jnp.zeros_like(push))
    pairs = zip(
        jax.tree.leaves((with_push.physics, with_push.reward)),
        jax.tree.leaves((without.physics, without.reward)),
        strict=True,
    )
    assert any(np.abs(np.asarray(a - b)).max() > 1e-7 for a, b in pairs)


@pytest.mark.slow
def test_vmap_equals_the_loop(case, env, reset, step):
    keys = jax.random.split(jax.random.key(0), case.num_envs)
    action, push = inputs(env, jax.random.key(1), case.num_envs)
    together = jax.jit(jax.vmap(env.step))(jax.jit(jax.vmap(env.reset))(keys), action, push)
    for i in range(case.num_envs):
        alone = step(reset(keys[i]), action[i], push[i])
        chex.assert_trees_all_close(
            plain(jax.tree.map(lambda x, i=i: x[i], together)),
            plain(alone),
            rtol=case.tolerance,
            atol=case.tolerance,
        )


def test_batched_rollout_is_finite_and_its_cost_is_bounded(case, env):
    """0 <= max - task reward, and <= max too where the reward is scaled by its maximum."""
    batch = BatchEnv(env, case.num_envs)
    action, push = inputs(env, jax.random.key(1), case.num_steps, case.num_envs)
    state = jax.jit(lambda key: batch.reset(key, stagger=True))(jax.random.key(0))
    final, steps = jax.jit(
        lambda s: jax.lax.scan(lambda s, x: batch.step(s, *x), s, (action, push))
    )(state)
    assert types(final) == types(state)
    assert bool(jnp.all(steps.valid))
    for leaf in jax.tree.leaves(plain((final, steps))):
        assert np.all(np.isfinite(leaf))
    assert not np.any(steps.terminated & steps.truncated)
    spec = env.spec
    cost = spec.task_reward_max - np.asarray(steps.task_reward)
    assert cost.min() >= -1e-6
    if spec.task_reward_scale == spec.task_reward_max:
        assert cost.max() <= spec.task_reward_max + 1e-6


def test_mirror_is_an_involution_of_the_right_size(env):
    mirror, spec = env.spec.mirror, env.spec
    if mirror is None:
        return
    sizes = {
        "policy": spec.policy_size,
        "privileged": spec.privileged_size,
        "action": spec.action_size,
        "disturbance": spec.disturbance.size,
    }
    for part, size in sizes.items():
        permutation, sign = getattr(mirror, part)
        assert len(permutation) == len(sign) == size
        assert all(abs(s) == 1.0 for s in sign)
        for i in range(size):
            assert permutation[permutation[i]] == i
            assert sign[i] * sign[permutation[i]] == 1.0


def reflect(part, x):
    permutation, sign = part
    return jnp.asarray(sign, jnp.float32) * x[jnp.asarray(permutation, jnp.int32)]


def test_mirrored_step_is_the_mirror_image_of_the_step(case, env, reset, step):
    mirror = env.spec.mirror
    if mirror is None or not case.exact_mirror:
        return
    assert case.mirror_physics is not None, "a case with a mirror must give mirror_physics"

    def image(state):
        observation = {
            name: reflect(getattr(mirror, name), state.observation[name])
            for name in ("policy", "privileged")
        }
        return state.replace(physics=case.mirror_physics(state.physics), observation=observation)

    state = reset(jax.random.key(2))
    action, push = inputs(env, jax.random.key(3))
    stepped = step(state, action, push)
    mirrored = step(image(state), reflect(mirror.action, action), reflect(mirror.disturbance, push))
    expected = image(stepped)
    for name in ("observation", "reward", "task_reward", "terminated"):
        chex.assert_trees_all_close(
            getattr(mirrored, name),
            getattr(expected, name),
            rtol=case.tolerance,
            atol=case.tolerance,
        )
