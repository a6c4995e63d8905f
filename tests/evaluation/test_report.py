import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl import tasks
from hinf_rl.agents.hinf import attack
from hinf_rl.envs.classic import CartPole, CartPoleConfig
from hinf_rl.errors import UserError
from hinf_rl.evaluation import markdown, protocol, report
from hinf_rl.training import run_directory

_GRID = protocol.ProtocolConfig.quick(num_envs=4)


def _idle(observation):
    return jnp.zeros((observation["policy"].shape[0], 1), jnp.float32)


def _push(observation):
    return jnp.full((observation["policy"].shape[0], 1), 0.6, jnp.float32)


def _log():
    return "".join(
        json.dumps(
            {
                "iteration": i,
                "env_steps": 1000 * i,
                "episode/return": [float(i), 2.0 * i],
                "constraint/slack": [0.1, -0.1],
                "constraint/multiplier": [1.0, 1.0 + i],
            }
        )
        + "\n"
        for i in range(1, 6)
    )


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    """A run of two seeds of an idle cart-pole, short enough that it only falls when pushed."""
    (tmp_path / "metrics.jsonl").write_text(_log())
    (tmp_path / "manifest.json").write_text(json.dumps({"command": "hinf-rl train cartpole"}))
    policy, pusher = jax.tree_util.Partial(_idle), jax.tree_util.Partial(_push)
    config = tasks.configure("cartpole")

    def load(path, physics=None):
        assert path == tmp_path
        return report._Run(
            config=config,
            policies=[policy, policy],
            disturbers=[pusher, pusher],
            nominal_env=CartPole(CartPoleConfig(episode_length=60)),
            randomised_env=CartPole(CartPoleConfig(episode_length=60, randomise=True)),
        )

    monkeypatch.setattr(report, "_load", load)
    return tmp_path


@pytest.fixture
def trained(monkeypatch):
    """Replaces the training of attackers; returns what was asked for."""
    asked = []

    def train(env, policy, config, key, *, objective, iterations, num_envs, size):
        assert (num_envs, size) == (256, 1.5)
        asked.append((objective, iterations, config.disturbance.limit, key))
        return jax.tree_util.Partial(_push)

    monkeypatch.setattr(attack, "train_attacker", train)
    return asked


def _evaluate(run_dir, lines=None, **options):
    tell = (lines if lines is not None else []).append
    plan = report.AttackPlan(per_objective=1, iterations=3)
    options = {"protocol": _GRID, "attacks": plan, "pictures": False, **options}
    return report.evaluate_run(run_dir, tell=tell, **options)


@pytest.mark.slow
def test_an_evaluation_writes_its_report(run_dir, trained):
    lines = []
    results = _evaluate(run_dir, lines, pictures=True)
    folder = run_dir / "report"
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    text = (folder / "report.md").read_text()
    assert text.splitlines()[2].startswith("| test | size | survival |")
    for name in ("sudden.gif", "sudden.png", "disturber.gif", "survival.png", "attack.png"):
        assert (folder / name).stat().st_size > 1000
        assert name == "attack.png" or f"]({name})" in text
    assert "over 2 training seeds" in text and "hinf-rl train cartpole" in text
    assert results["num_seeds"] == 2 and len(results["per_seed"]) == 2
    assert any(line.startswith("seed 2 of 2, attacker 2 of 2") for line in lines)


def test_each_policy_meets_fresh_attackers_of_both_kinds(run_dir, trained):
    results = _evaluate(run_dir)
    asked = [(objective, iterations, limit) for objective, iterations, limit, _ in trained]
    assert asked == [("task", 3, None), ("fall", 3, None)] * 2
    keys = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for *_, key in trained}
    assert len(keys) == 4
    assert set(results["per_seed"][0]["attacks"]) == {"task-0-1", "fall-0-1"}
    # Pushed one way with full force, the idle pole falls: it is unstable.
    assert results["cells"]["deliberate-1"]["survival"][0] == 0.0


def test_a_baseline_must_have_been_evaluated(run_dir, trained):
    with pytest.raises(UserError, match="hinf-rl evaluate"):
        _evaluate(run_dir, baseline=run_dir / "other")
    assert not trained  # said before anything slow
    _evaluate(run_dir)
    _evaluate(run_dir, baseline=run_dir)


def test_without_attackers_the_report_says_so_and_keeps_no_older_figure(run_dir, trained):
    folder = run_dir / "report"
    _evaluate(run_dir)
    assert (folder / "attack.png").exists()
    results = _evaluate(run_dir, attacks=report.AttackPlan(per_objective=0))
    assert "deliberate-1" not in results["cells"]
    assert "No attacker was trained" in (folder / "report.md").read_text()
    assert not (folder / "attack.png").exists()


def test_a_task_without_limit_or_picture_is_measured_all_the_same(run_dir, monkeypatch, hazard_env):
    run = types.SimpleNamespace(algorithm="hinf", agent=tasks.configure("cartpole").agent)
    env = hazard_env(limit=np.inf, name="thing")
    policy = jax.tree_util.Partial(_idle)
    loaded = report._Run(run, [policy], [None], env, None)
    monkeypatch.setattr(report, "_load", lambda path, physics=None: loaded)
    results = _evaluate(run_dir, pictures=True)
    assert results["protocol"]["reference"] == 1.0
    assert any("no limit" in note for note in results["notes"])
    assert any("no picture" in note for note in results["notes"])
    assert "one training seed" in (run_dir / "report" / "report.md").read_text()


def test_a_seed_that_does_not_exist_is_named(run_dir):
    with pytest.raises(UserError, match="seeds 0 to 1"):
        report.render_run(run_dir, seed=2)


def test_rendering_writes_the_films(run_dir):
    films = report.render_run(run_dir, seconds=0.4, tell=lambda text: None)
    assert set(films) == {"sudden", "disturber"}
    assert all(film.gif.exists() and film.strip.exists() for film in films.values())


def test_a_film_beside_another_run(run_dir, monkeypatch):
    config = types.SimpleNamespace(task="cartpole")
    monkeypatch.setattr(run_directory, "read_config", lambda path: config)
    films = report.render_run(run_dir, seconds=0.2, beside=run_dir, tell=lambda text: None)
    assert set(films) == {"sudden", "disturber", "beside"}
    assert films["beside"].gif.exists()
    config.task = "pendulum"
    with pytest.raises(UserError, match="is of task 'pendulum', not 'cartpole'"):
        report.render_run(run_dir, beside=run_dir)
    # A film of an earlier call must not pass for one of this call.
    report.render_run(run_dir, seconds=0.2, tell=lambda text: None)
    assert not films["beside"].gif.exists()


def test_a_row_by_hand(tmp_path):
    cell = {
        "magnitude": 100.0,
        "survival": [0.5, 0.25, 0.75],
        "task_reward_fraction": [0.9, 0.8, 1.0],
        "tracking": {"velocity_error": [0.1, 0.05, 0.2]},
    }
    assert markdown._row(cell, "N") == (
        "100 N | 0.500 [0.250, 0.750] | 0.900 [0.800, 1.000] | 0.100 [0.050, 0.200]"
    )


def test_attackers_weaker_than_chance_are_owned_up_to():
    cells = {
        "deliberate-1": {"survival": [0.9, 0.8, 1.0]},
        "continuous-1": {"survival": [0.5, 0.4, 0.6]},
    }
    (line,) = markdown._weak_attackers(cells)
    assert "0.900" in line and "no worst case yet" in line
    cells["deliberate-1"]["survival"][0] = 0.5
    assert not list(markdown._weak_attackers(cells))


def test_bad_plans_are_named():
    with pytest.raises(UserError, match="iterations"):
        report.AttackPlan(iterations=0)


def test_a_run_of_mjx_can_be_tested_on_native_physics(monkeypatch, tmp_path):
    config = tasks.configure("aliengo", overrides={"env.physics": "mjx"})
    algorithm = types.SimpleNamespace(policy=lambda carry: carry, disturber=lambda carry: carry)
    monkeypatch.setattr(run_directory, "load_run", lambda path: (config, algorithm, "carry"))
    run = report._load(tmp_path, "native")
    assert run.nominal_env.config.physics == run.randomised_env.config.physics == "native"
    assert not run.nominal_env.config.randomise and run.randomised_env.config.randomise
