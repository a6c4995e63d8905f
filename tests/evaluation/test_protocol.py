import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.evaluation import protocol, summary

_GRID = protocol.ProtocolConfig(num_envs=8)


def _constant(force, observation):
    return jnp.broadcast_to(force, (observation["policy"].shape[0], 3))


def _attacker(name, force, objective="fall"):
    policy = jax.tree_util.Partial(_constant, jnp.array(force, jnp.float32))
    return protocol.TrainedAttacker(name, objective, policy)


def test_the_grid_includes_both_ends_and_the_headline(hazard_env, idle_policy):
    results = protocol.run_protocol(hazard_env(), idle_policy, config=_GRID)
    sizes = {name: cell["magnitude"] for name, cell in results["cells"].items()}
    # Fractions of the limit of 10 N.
    assert sizes == {
        "nominal": 0.0,
        "continuous-0.25": 2.5,
        "continuous-0.5": 5.0,
        "continuous-0.75": 7.5,
        "continuous-1": 10.0,
        "continuous-1.5": 15.0,
        "sudden-1": 10.0,
        "sudden-1.5": 15.0,
        "sudden-2": 20.0,
    }
    for name, cell in results["cells"].items():
        if name.startswith("continuous"):
            assert cell["force"][0] == pytest.approx(cell["magnitude"], rel=1e-5)
    # 40 steps of 0.1 s: a push of 0.2 s at 1 s, the next would come at 4 s: 2 steps of 40.
    assert results["cells"]["sudden-2"]["force"][0] == pytest.approx(20 * 2 / 40, rel=1e-5)


@pytest.mark.smoke
def test_cells_by_hand(hazard_env, idle_policy):
    # Force F costs 0.05 F (task reward 2 - 0.1 F of 2) at intensity F / 10: gain 0.5 anywhere.
    results = protocol.run_protocol(hazard_env(), idle_policy, config=_GRID)
    cell = results["cells"]["continuous-1"]
    np.testing.assert_allclose(cell["task_reward_fraction"], 0.5, rtol=1e-5)
    np.testing.assert_allclose(cell["cost"], 0.5, rtol=1e-5)
    np.testing.assert_allclose(cell["intensity"], 1.0, rtol=1e-5)
    np.testing.assert_allclose(cell["tracking"]["velocity_error"], 10.0, rtol=1e-5)
    assert cell["gain"] == pytest.approx(0.5, rel=1e-5)
    assert results["gain"]["value"] == pytest.approx(0.5, rel=1e-4)
    assert results["cells"]["nominal"]["gain"] is None
    assert cell["num_survived"] == cell["num_episodes"] == 8
    # Wilson for 8 of 8: low = 8 / (8 + 1.96^2) = 0.6756.
    np.testing.assert_allclose(cell["survival"], [1.0, 0.6756, 1.0], atol=1e-4)


def test_the_best_attacker_counts(hazard_env, idle_policy):
    # Hazard 0.05 per N and step over 40 steps: 0.1 N is survived with 0.82, 10 N with e^-20.
    attackers = [_attacker("weak", [0.1, 0, 0], "task"), _attacker("strong", [0, 10.0, 0])]
    env = hazard_env(hazard=0.05)
    results = protocol.run_protocol(env, idle_policy, attackers, config=_GRID)
    assert set(results["attacks"]) == {
        f"{name}-{size}" for name in ("weak", "strong") for size in ("0.5", "1", "1.5")
    }
    for size in ("0.5", "1", "1.5"):
        chosen = results["cells"][f"deliberate-{size}"]
        assert chosen["attacker"] == "strong" and chosen["objective"] == "fall"
        assert chosen["force"][0] == pytest.approx(10 * float(size), rel=1e-5)
        assert chosen["survival"][0] < results["attacks"][f"weak-{size}"]["survival"][0]
    # The strong push points along +y: sector 4 of 16.
    assert np.argmax(results["cells"]["deliberate-1"]["rose"]) == 4


def test_equal_survival_is_decided_by_the_task_reward(hazard_env, idle_policy):
    attackers = [_attacker("a", [1.0, 0, 0]), _attacker("b", [4.0, 0, 0])]
    results = protocol.run_protocol(hazard_env(), idle_policy, attackers, config=_GRID)
    assert results["cells"]["deliberate-1"]["attacker"] == "b"


def test_the_gain_finds_the_most_effective_push(hazard_env, idle_policy):
    # A fall at the first pushes costs 1 per step for the rest at little intensity.
    env = hazard_env(hazard=10.0)
    results = protocol.run_protocol(env, idle_policy, config=_GRID)
    # Continuous 2.5 N falls with step 1 of 40: cost (0.125 + 39) / 40, intensity 0.25 / 40.
    by_hand = (0.125 + 39) / 0.25
    assert results["gain"]["value"] == pytest.approx(by_hand, rel=1e-4)
    assert results["gain"]["cell"] == "continuous-0.25"


def test_randomised_is_one_more_cell_without_a_gain(hazard_env, idle_policy):
    results = protocol.run_protocol(
        hazard_env(),
        idle_policy,
        randomised_env=hazard_env(randomise=True, fall_at=1),
        config=_GRID,
    )
    assert results["cells"]["randomised"]["survival"][0] == 0.0
    assert results["cells"]["randomised"]["gain"] is None
    assert results["cells"]["nominal"]["survival"][0] == 1.0


def test_results_are_json_and_the_same_twice(hazard_env, idle_policy):
    env = hazard_env(hazard=0.01)
    first, second = (
        json.dumps(protocol.run_protocol(env, idle_policy, config=_GRID)) for _ in range(2)
    )
    assert first == second
    assert json.loads(first)["protocol"]["name"] == "hinf-protocol-1 (changed grid)"


def test_only_the_own_grid_bears_the_name():
    assert protocol.ProtocolConfig().name == "hinf-protocol-1"
    assert protocol.ProtocolConfig(reference=3.0).name == "hinf-protocol-1"
    assert protocol.ProtocolConfig.quick().name == "hinf-protocol-1 (changed grid)"


def test_held_out_keys_are_not_training_keys():
    held_out = set(map(tuple, [_data(protocol.held_out_key())]))
    training = {tuple(_data(jax.random.key(seed))) for seed in range(100)}
    training |= {
        tuple(_data(jax.random.fold_in(jax.random.key(0), number))) for number in range(1000)
    }
    assert not held_out & training


def _data(key):
    return np.asarray(jax.random.key_data(key)).tolist()


def test_an_unbounded_disturbance_needs_a_reference(hazard_env, idle_policy):
    env = hazard_env(limit=np.inf)
    with pytest.raises(UserError, match="set reference"):
        protocol.run_protocol(env, idle_policy, config=_GRID)
    grid = protocol.ProtocolConfig.quick(num_envs=4, reference=2.0)
    results = protocol.run_protocol(env, idle_policy, config=grid)
    # Squared norm: force 2 costs 0.1 at intensity 4.
    assert results["cells"]["continuous-1"]["gain"] == pytest.approx(0.1 / 4, rel=1e-4)


def test_a_task_without_disturbance_has_the_nominal_cell_only(hazard_env, idle_policy):
    results = protocol.run_protocol(hazard_env(size=0), idle_policy, config=_GRID)
    assert list(results["cells"]) == ["nominal"]
    assert results["gain"] == {"value": None, "cell": None}


def test_progress_is_told_in_words(hazard_env, idle_policy):
    lines = []
    protocol.run_protocol(hazard_env(), idle_policy, config=_GRID, progress=lines.append)
    assert lines == ["grid: step 40 of 40, about 0 s left"]


def test_seeds_are_merged_with_intervals_over_seeds(hazard_env, idle_policy):
    good = protocol.run_protocol(hazard_env(), idle_policy, config=_GRID)
    bad = protocol.run_protocol(hazard_env(fall_at=1), idle_policy, config=_GRID)
    merged = summary.merge_results([good, good, bad])
    cell = merged["cells"]["nominal"]
    assert merged["num_seeds"] == 3
    assert cell["num_survived"] == 16 and cell["num_episodes"] == 24
    assert cell["survival_per_seed"] == [1.0, 1.0, 0.0]
    # Three seeds 1, 1, 0: a resample is all 0 with chance 1/27 = 3.7 % > 2.5 %.
    np.testing.assert_allclose(cell["survival"], [2 / 3, 0.0, 1.0])
    json.dumps(merged)


def test_one_seed_keeps_its_own_interval(hazard_env, idle_policy):
    results = protocol.run_protocol(hazard_env(), idle_policy, config=_GRID)
    merged = summary.merge_results([results])
    for name, cell in results["cells"].items():
        assert {**merged["cells"][name], **cell} == merged["cells"][name]


def test_different_grids_are_not_merged(hazard_env, idle_policy):
    one = protocol.run_protocol(hazard_env(), idle_policy, config=_GRID)
    other = protocol.run_protocol(
        hazard_env(), idle_policy, config=protocol.ProtocolConfig(num_envs=4)
    )
    with pytest.raises(UserError, match="different protocol"):
        summary.merge_results([one, other])
    with pytest.raises(UserError, match="no results"):
        summary.merge_results([])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"continuous_fractions": (0.5, 0.25, 1.0)}, "must rise"),
        ({"sudden_fractions": (1.5,)}, "include 1.0"),
        ({"reference": 0.0}, "reference"),
    ],
)
def test_bad_grids_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        protocol.ProtocolConfig(**fields)


def test_bad_attackers_are_named(hazard_env, idle_policy):
    twice = [_attacker("a", [1.0, 0, 0])] * 2
    with pytest.raises(UserError, match="different names"):
        protocol.run_protocol(hazard_env(), idle_policy, twice)
    scripted = [_attacker("sudden", [1.0, 0, 0])]
    with pytest.raises(UserError, match="like a scripted cell"):
        protocol.run_protocol(hazard_env(), idle_policy, scripted)
    odd = [_attacker("a", [1.0, 0, 0], "chaos")]
    with pytest.raises(UserError, match="chaos"):
        protocol.run_protocol(hazard_env(), idle_policy, odd)
