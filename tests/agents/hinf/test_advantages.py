"""What each player climbs and what moves the multiplier, against NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.agents.hinf import advantages, make
from hinf_rl.agents.hinf.critic import Heads

GAMMA, LAMBDA = 0.99, 0.95
SCALE = 0.5  # of the plane's task reward
DISTURBED = np.arange(8) >= 2


def gae(reward, value, following, data):
    """Backwards in time, one step after the other, in float64."""
    total = np.zeros(reward.shape[1])
    rows = []
    for t in reversed(range(len(reward))):
        bootstrap = np.where(data.terminated[t], 0.0, following[t])
        delta = reward[t] + GAMMA * bootstrap - value[t]
        goes_on = ~(data.terminated[t] | data.truncated[t])
        total = np.where(data.valid[t], delta + GAMMA * LAMBDA * goes_on * total, 0.0)
        rows.append(total)
    return np.stack(rows[::-1])


def standard(x, mask):
    return np.where(mask, (x - x[mask].mean()) / x[mask].std(), 0.0)


class Case:
    """One configuration with made-up data, and its advantages."""

    def __init__(self, kit, config, *, multiplier=1.0, env=None):
        algorithm = make(config, kit.Plane() if env is None else env)
        self.config, self.heads = config, Heads(config)
        self.spec = kit.Plane().spec
        carry = algorithm.init(jax.random.key(0))
        self.carry = carry._replace(multiplier=jnp.float32(multiplier))
        self.data = kit.made_up_transition(jax.random.key(4))
        shape = (*self.data.valid.shape, len(self.heads.names))
        keys = jax.random.split(jax.random.key(5))
        self.values = jax.random.normal(keys[0], shape)
        self.final_values = jax.random.normal(keys[1], shape)

    def estimate(self):
        return advantages.estimate(
            self.config, self.spec, self.heads, self.carry, self.data, self.values,
            self.final_values, jnp.asarray(DISTURBED),
        )  # fmt: skip

    def numpy(self):
        data = jax.tree.map(np.asarray, self.data)
        rewards = np.asarray(self.heads.rewards(self.data))
        raw = {
            name: gae(
                rewards[..., i],
                np.asarray(self.values[..., i], np.float64),
                np.asarray(self.final_values[..., i], np.float64),
                data,
            )
            for i, name in enumerate(self.heads.names)
        }
        mask = data.valid & DISTURBED
        centred = np.where(mask, data.asked_intensity - data.asked_intensity[mask].mean(), 0.0)
        return data, raw, mask, centred


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=3e-4)


@pytest.mark.parametrize("multiplier", [0.0, 1.0, 7.0])
def test_the_actor_climbs_reward_plus_lambda_times_task(kit, multiplier):
    case = Case(kit, kit.tiny(), multiplier=multiplier)
    data, raw, *_ = case.numpy()
    whole, task = standard(raw["reward"], data.valid), standard(raw["task"], data.valid)
    close(case.estimate().actor, (whole + multiplier * task) / (1.0 + multiplier))


def test_the_disturber_climbs_lost_task_reward_less_the_price_of_force(kit):
    case = Case(kit, kit.tiny(constraint={"attenuation": 0.7}))
    _, raw, mask, centred = case.numpy()
    found = case.estimate()
    close(found.disturber, standard(-raw["task"] / SCALE - 0.7 * centred, mask))
    np.testing.assert_array_equal(found.is_disturbed, mask)
    assert not np.any(np.asarray(found.disturber)[:, :2])


def test_a_held_force_is_chosen_once_and_paid_for_at_every_step(kit):
    # Decisions each 0.3 s at 0.1 s a step: a third of the samples, three times the price.
    config = kit.tiny(disturbance={"decision_s": 0.3}, constraint={"attenuation": 0.7})
    case = Case(kit, config)
    decided = np.broadcast_to((np.arange(6) % 3 == 0)[:, None], (6, 8))
    case.data = case.data._replace(is_decision=jnp.asarray(decided))
    data, raw, *_ = case.numpy()
    mask = data.valid & DISTURBED & decided
    centred = np.where(mask, data.asked_intensity - data.asked_intensity[mask].mean(), 0.0)
    found = case.estimate()
    close(found.disturber, standard(-raw["task"] / SCALE - 3 * 0.7 * centred, mask))
    np.testing.assert_array_equal(found.is_disturbed, mask)


def test_value_targets_are_advantage_plus_value_per_head(kit):
    case = Case(kit, kit.tiny())
    _, raw, *_ = case.numpy()
    for i, name in enumerate(["reward", "task"]):
        close(case.estimate().returns[..., i], raw[name] + np.asarray(case.values[..., i]))


def test_a_discounted_intensity_has_a_head_of_its_own(kit):
    constraint = {"intensity_horizon": "discounted", "attenuation": 0.7}
    case = Case(kit, kit.tiny(constraint=constraint))
    _, raw, mask, _ = case.numpy()
    assert case.heads.names == ["reward", "task", "intensity"]
    expected = standard(-raw["task"] / SCALE - 0.7 * raw["intensity"], mask)
    close(case.estimate().disturber, expected)


def test_a_fall_seeker_climbs_the_probability_of_a_fall(kit):
    disturbance = {"objective": "fall"}
    case = Case(kit, kit.tiny(disturbance=disturbance, constraint={"multiplier": "off"}))
    data, raw, mask, _ = case.numpy()
    rewards = np.asarray(case.heads.rewards(case.data))[..., case.heads.index("fall")]
    np.testing.assert_array_equal(rewards, -(data.terminated & data.valid).astype(float))
    close(case.estimate().disturber, standard(-raw["fall"], mask))


def test_the_price_of_force_is_unitless_for_both_kinds_of_lost_reward(kit):
    # Reward and task reward have the same unit, which the scale takes away.
    disturbance = {"objective": "reward"}
    case = Case(kit, kit.tiny(disturbance=disturbance, constraint={"attenuation": 0.7}))
    _, raw, mask, centred = case.numpy()
    close(case.estimate().disturber, standard(-raw["reward"] / SCALE - 0.7 * centred, mask))


def test_without_constraint_force_has_no_price_and_lambda_no_effect(kit):
    off = {"multiplier": "off"}
    first = Case(kit, kit.tiny(constraint=off | {"attenuation": 0.1}), multiplier=0.0)
    second = Case(kit, kit.tiny(constraint=off | {"attenuation": 9.0}), multiplier=5.0)
    data, raw, mask, _ = first.numpy()
    assert kit.same_bits(first.estimate(), second.estimate())
    close(first.estimate().actor, standard(raw["reward"], data.valid))
    close(first.estimate().disturber, standard(-raw["task"], mask))


def test_the_actor_is_not_paid_for_force_unless_asked(kit):
    prices = [{"attenuation": 0.1}, {"attenuation": 9.0}]
    blind = [Case(kit, kit.tiny(constraint=price)).estimate().actor for price in prices]
    assert kit.same_bits(*blind)
    seeing = Case(kit, kit.tiny(constraint={"attenuation": 0.7, "actor_sees_intensity": True}))
    data, raw, _, centred = seeing.numpy()
    whole = standard(raw["reward"], data.valid)
    paid = standard(raw["task"] + 0.7 * SCALE * centred, data.valid)
    close(seeing.estimate().actor, (whole + paid) / 2.0)


def test_the_game_is_zero_sum(kit):
    constraint = {"intensity_horizon": "discounted", "attenuation": 0.7, "multiplier": "off"}
    config = kit.tiny(actor_objective="game", constraint=constraint)
    case = Case(kit, config)
    data, raw, mask, _ = case.numpy()
    gain = raw["task"] / SCALE + 0.7 * raw["intensity"]
    close(case.estimate().actor, standard(gain, data.valid))
    close(case.estimate().disturber, standard(-gain, mask))


def test_a_broken_step_gives_nobody_an_advantage(kit):
    case = Case(kit, kit.tiny())
    found, valid = case.estimate(), np.asarray(case.data.valid)
    assert not valid.all()
    for name in ("actor", "disturber"):
        assert not np.any(np.asarray(getattr(found, name))[~valid])
    np.testing.assert_array_equal(found.returns[~valid], case.values[~valid])


def dual(case, **changes):
    data = case.data._replace(**changes)
    carry, metrics = advantages.dual_step(
        case.config, case.spec, case.carry, data, jnp.asarray(DISTURBED), ~jnp.asarray(DISTURBED)
    )
    return carry, metrics, jax.tree.map(np.asarray, data)


@pytest.mark.parametrize("iteration", [0, 3])
def test_the_multiplier_steps_against_the_measured_slack(kit, iteration):
    constraint = {"attenuation": 0.7, "multiplier_lr": 0.2}
    case = Case(kit, kit.tiny(constraint=constraint), multiplier=1.5)
    case.carry = case.carry._replace(iteration=jnp.int32(iteration), nominal_cost=jnp.float32(0.25))
    carry, metrics, data = dual(case)
    cost = (0.5 - data.task_reward) / SCALE
    pushed, left = data.valid & DISTURBED, data.valid & ~DISTURBED
    # The first measurement starts the running mean; from then on 10 % of each enters.
    nominal = cost[left].mean() if iteration == 0 else 0.9 * 0.25 + 0.1 * cost[left].mean()
    slack = 0.7 * data.intensity[pushed].mean() - (cost[pushed].mean() - nominal)
    np.testing.assert_allclose(carry.nominal_cost, nominal, rtol=1e-5)
    np.testing.assert_allclose(metrics["constraint/slack"], slack, atol=1e-6)
    np.testing.assert_allclose(carry.multiplier, 1.5 - 0.2 * slack, rtol=1e-5)


def test_the_multiplier_rests_while_nobody_is_pushed(kit):
    case = Case(kit, kit.tiny(), multiplier=1.5)
    carry, metrics, _ = dual(case, intensity=jnp.zeros_like(case.data.intensity))
    assert float(carry.multiplier) == 1.5
    assert float(metrics["constraint/multiplier"]) == 1.5


@pytest.mark.parametrize("kind", ["off", "fixed"])
def test_only_a_dual_multiplier_moves(kit, kind):
    case = Case(kit, kit.tiny(constraint={"multiplier": kind}), multiplier=1.5)
    assert float(dual(case)[0].multiplier) == 1.5


@given(
    task_reward=st.floats(0.0, 0.5),
    intensity=st.floats(0.01, 1.0),
    eta=st.floats(0.1, 5.0),
    multiplier=st.floats(0.0, 10.0),
)
def test_the_multiplier_stays_in_range_and_moves_against_the_slack(
    case_with_dual, task_reward, intensity, eta, multiplier
):
    case = case_with_dual
    numbers = case.carry.hyperparameters._replace(attenuation=jnp.float32(eta))
    case.carry = case.carry._replace(multiplier=jnp.float32(multiplier), hyperparameters=numbers)
    full = jnp.ones_like(case.data.task_reward)
    carry, metrics, _ = dual(case, task_reward=task_reward * full, intensity=intensity * full)
    slack, moved = float(metrics["constraint/slack"]), float(carry.multiplier) - multiplier
    assert 0.0 <= float(carry.multiplier) <= 10.0
    assert slack * moved <= 0.0 or abs(moved) < 1e-6


@pytest.fixture(scope="module")
def case_with_dual(kit):
    return Case(kit, kit.tiny())


def idle_run(kit, *, baseline_decay, undisturbed_fraction):
    """Forty dual steps with a disturber that barely pushes and costs nothing; cost is 0.3."""
    config = kit.tiny(
        disturbance={"undisturbed_fraction": undisturbed_fraction},
        constraint={"baseline_decay": baseline_decay},
    )
    case = Case(kit, config, multiplier=1.0)
    data = case.data._replace(
        task_reward=jnp.full_like(case.data.task_reward, 0.35),
        intensity=jnp.full_like(case.data.intensity, 0.01),
    )
    disturbed = jnp.arange(8) >= config.num_undisturbed
    carry = case.carry
    path = [float(carry.multiplier)]
    for _ in range(40):
        carry, _ = advantages.dual_step(config, case.spec, carry, data, disturbed, ~disturbed)
        carry = carry._replace(iteration=carry.iteration + jnp.int32(1))
        path.append(float(carry.multiplier))
    return np.array(path)


def test_the_raw_constraint_drives_lambda_up_without_any_harm_done(kit):
    # G = 2 * 0.01 - 0.3 = -0.28: each of the 40 steps adds 0.2 * 0.28 = 0.056.
    raw = idle_run(kit, baseline_decay=None, undisturbed_fraction=0.0)
    np.testing.assert_allclose(raw, 1.0 + 0.056 * np.arange(41), rtol=1e-4)


def test_the_baseline_keeps_lambda_down_where_no_harm_is_done(kit):
    # Cbar = 0.3, G = 0.02: lambda falls by 0.004 a step.
    kept = idle_run(kit, baseline_decay=0.9, undisturbed_fraction=0.25)
    np.testing.assert_allclose(kept, 1.0 - 0.004 * np.arange(41), rtol=1e-4)


def test_heads_follow_the_configuration(kit):
    base = kit.tiny()
    fall = dataclasses.replace(base.disturbance, objective="fall")
    assert Heads(base).names == ["reward", "task"]
    assert Heads(dataclasses.replace(base, disturbance=fall)).names == ["reward", "task", "fall"]
