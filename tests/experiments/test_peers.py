"""Benchmarks against peers: the processes that take turns, ratios by hand, and the report."""

import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import (
    brax_ppo,
    gymnax_cartpole,
    native_mjx,
    peers_report,
    venvs,
    whole_jit,
)
from experiments.benchmarks.ppo_settings import Settings, from_text, to_text
from experiments.benchmarks.turns import Unmeasured, side
from hinf_rl.errors import UserError
from hinf_rl.training.files import read_json


def process(body, limit_s=60.0):
    """A side that runs `body` with `turns` at hand."""
    head = "from experiments.benchmarks.turns import Turns\nturns = Turns()\n"
    return side([sys.executable, "-c", head + textwrap.dedent(body)], limit_s=limit_s)


def test_a_side_answers_when_asked_whatever_else_it_prints():
    body = """
    count = 0
    def turn():
        global count
        count += 1
        print("chatter of a library")
        return {"count": count}
    turns.answer(ready=True)
    turns.serve({"turn": turn})
    """
    with process(body) as opened:
        assert opened.read_json() == {"ready": True}
        assert opened.ask_json("turn") == {"count": 1}
        assert opened.ask_json("turn") == {"count": 2}


def test_a_side_that_takes_too_long_is_unmeasured_and_gone():
    with (
        process("import time; time.sleep(60)", limit_s=0.5) as opened,
        pytest.raises(Unmeasured, match=r"no answer within 0 s|no answer within 1 s"),
    ):
        opened.read_json()


def test_a_side_that_breaks_says_its_last_words():
    with process("raise RuntimeError('no such thing')") as opened:
        with pytest.raises(Unmeasured, match="RuntimeError: no such thing"):
            opened.read_json()
        # Asking a process that is gone is no different.
        with pytest.raises(Unmeasured, match="no such thing"):
            opened.ask("turn")


def test_settings_survive_the_way_to_another_process():
    settings = Settings(turns=3, hidden=(8, 8, 8))
    assert from_text(to_text(settings)) == settings
    # 256 environments x 32 steps x 5 iterations.
    assert settings.steps_per_turn == 40_960
    assert settings.iterations == 15


def test_an_unknown_peer_is_named_with_those_that_exist():
    with pytest.raises(UserError, match=r"unknown peer 'braks' \(known: brax, gymnax\)"):
        venvs.interpreter("braks")


def test_an_environment_is_made_once_and_again_for_other_versions(monkeypatch, tmp_path):
    versions, commands = tmp_path / "peers", []
    versions.mkdir()
    (versions / "x.txt").write_text("a==1\n")

    def run(command, peer):
        commands.append(command[1:4])
        (tmp_path / "made" / "x").mkdir(exist_ok=True, parents=True)

    monkeypatch.setattr(venvs, "VERSIONS", versions)
    monkeypatch.setattr(venvs, "FOLDER", tmp_path / "made")
    monkeypatch.setattr(venvs, "_run", run)
    assert venvs.interpreter("x") == venvs.interpreter("x") == tmp_path / "made/x/bin/python"
    assert [command[:2] for command in commands] == [["-m", "venv"], ["-m", "pip"]]
    (versions / "x.txt").write_text("a==2\n")
    venvs.interpreter("x")
    assert len(commands) == 4


def test_without_a_package_index_the_error_says_what_is_missing(monkeypatch, tmp_path):
    def fail(command, **kwargs):
        raise subprocess.CalledProcessError(
            1, command, stderr="WARNING: retrying\nERROR: No matching distribution found for a==1\n"
        )

    monkeypatch.setattr(venvs, "FOLDER", tmp_path)
    monkeypatch.setattr(venvs.subprocess, "run", fail)
    with pytest.raises(UserError, match=r"of brax: No matching distribution .* package index"):
        venvs.interpreter("brax")
    # The next call tries again.
    assert not (tmp_path / "brax" / "installed.txt").exists()


def test_every_peer_has_exact_versions_and_no_addresses():
    for path in venvs.VERSIONS.glob("*.txt"):
        lines = path.read_text().split()
        assert lines, path
        assert all(line.count("==") == 1 and "/" not in line for line in lines), path


def brax_run(scale):
    """One seed; Brax takes `scale` times as long as we do."""

    def one(factor, first):
        return {
            "first_result_s": first,
            "wall_s": first + 5 * factor,
            "turn_s": [9.0, 9.0, factor, 2 * factor, factor],
            "compiled": {"programs": 7, "seconds": 3.0, "long": [["step", 2.0]] * 2},
            "return": 900.0,
            "steps": 5 * 40_960,
            "versions": {"jax": "0.0"},
            "profile_s": {"simulate": [factor / 4] * 3, "reset": [factor / 8] * 3},
        }

    return {"ours": one(1.0, 10.0), "brax": one(scale, 30.0)}


def test_the_first_turns_are_left_out_of_the_steady_speed():
    found = brax_ppo.summary(Settings(turns=5), [brax_run(2.0), brax_run(2.0)])
    # Round by round: 2/1, 4/2, 2/1.
    assert found["steady_speed_ratio"] == {"median": 2.0, "min": 2.0, "max": 2.0}
    assert found["first_result_ratio"]["median"] == 3.0
    assert found["env_steps_per_s"]["ours"] == 40_960
    # (30 + 10) / (10 + 5).
    assert found["wall_ratio"]["median"] == pytest.approx(40 / 15)


def test_our_settings_are_those_of_brax():
    settings = Settings(num_envs=64, gamma=0.9, hidden=(16,))
    from hinf_rl.tasks import configure

    pytest.importorskip("brax")
    config = configure("brax:inverted_pendulum", "nominal", brax_ppo.our_overrides(settings))
    agent = config.agent
    assert (agent.num_envs, agent.gamma, agent.actor.hidden) == (64, 0.9, (16,))
    assert agent.actor.desired_kl is None
    assert agent.disturbance.source == "none"
    assert (config.env.backend, config.env.episode_length) == ("spring", 1000)


FAKE = """
import sys, time
from experiments.benchmarks.turns import Turns
turns = Turns()
name, total = sys.argv[1], int(sys.argv[2])
compiled = {"programs": 3, "seconds": 1.0, "long": []}
log = open(sys.argv[3], "a", buffering=1)
for index in range(total):
    log.write(f"{name}\\n")
    turns.answer(seconds=0.5, steps=10 * (index + 1), compiled=compiled)
    turns.wait()
turns.answer(jax="0.0")
turns.serve({
    "evaluate": lambda: {"return": 7.0},
    "simulate": lambda: {"seconds": 0.1},
    "reset": lambda: {"seconds": 0.2},
})
"""


def test_two_trainings_take_turns_to_the_end(monkeypatch, tmp_path):
    settings, log = Settings(turns=3), tmp_path / "order"

    def command(name):
        return [sys.executable, "-c", FAKE, name, "3", str(log)]

    monkeypatch.setattr(brax_ppo, "our_command", lambda *args, **kwargs: command("ours"))
    monkeypatch.setattr(brax_ppo, "brax_command", lambda *args: command("brax"))
    found = brax_ppo.train_both(settings, seed=0, limit_s=60.0)
    # The first result of each, one after the other, then in turned order every other time.
    assert log.read_text().split() == ["ours", "brax", "ours", "brax", "brax", "ours"]
    ours = found["ours"]
    assert ours["turn_s"] == [0.5, 0.5, 0.5]
    assert (ours["steps"], ours["return"], ours["versions"]) == (30, 7.0, {"jax": "0.0"})
    assert ours["wall_s"] == ours["first_result_s"] + 1.0
    assert ours["profile_s"] == {"simulate": [0.1] * 3, "reset": [0.2] * 3}
    assert set(found["brax"]["profile_s"]) == {"simulate"}


def test_a_training_without_an_answer_leaves_the_other_to_go_on(monkeypatch, tmp_path):
    def command(*args, **kwargs):
        name = args[1]["env.physics"]
        stuck = "raise SystemExit('too slow')"
        return [sys.executable, "-c", FAKE if name == "native" else stuck, name, "3", str(log)]

    log = tmp_path / "order"
    monkeypatch.setattr(native_mjx, "our_command", command)
    found = native_mjx.training(64, turns=3, limit_s=60.0)
    assert found["unmeasured"] == {"mjx": "the process ended: too slow"}
    assert found["seconds"] == {"native": [0.5, 0.5]}
    # 64 robots, 24 steps, half a second.
    assert found["env_steps_per_s"]["native"] == 64 * 24 / 0.5
    assert "native_over_mjx" not in found


def test_a_result_takes_the_place_of_an_older_one_of_its_size(tmp_path):
    data = {"stepping": [{"num_envs": 64, "old": True}, {"num_envs": 4096}]}
    native_mjx._record(tmp_path / "x.json", data, "stepping", {"num_envs": 64})
    native_mjx._record(tmp_path / "x.json", data, "training", {"num_envs": 1024})
    written = read_json(tmp_path / "x.json")
    assert [entry["num_envs"] for entry in written["stepping"]] == [64, 4096]
    assert "old" not in written["stepping"][0]
    assert "command" in written["training"][0]["provenance"]


def gymnax_start(scale):
    def one(factor):
        return {
            "first_result_s": 4.0 * factor,
            "steps": 1000,
            "turn_s": [factor, factor],
            "compiled": {"programs": 5, "seconds": 2.0, "long": [["train", 1.5]]},
            "return": [400.0, 500.0],
            "training_return": [300.0, 400.0],
            "profile_s": {"turn": [1.0, 2.0], "double": [1.4, 2.8]},
        }

    return {"ours": one(1.0), "whole_jit": one(scale), "simulation_s": 0.25}


def test_whole_trainings_take_turns(monkeypatch):
    body = """
    turns.answer(seconds=9.0, steps=512, compiled={}, jax="0.0")
    turns.serve({
        "turn": lambda: {"seconds": 0.5, "compiled": {"programs": 1}},
        "evaluate": lambda: {"return": [7.0], "training_return": [5.0]},
        "simulate": lambda: {"seconds": 0.1},
        "double": lambda: {"seconds": 0.7},
    })
    """
    head = "from experiments.benchmarks.turns import Turns\nturns = Turns()\n"
    fake = [sys.executable, "-c", head + textwrap.dedent(body)]
    monkeypatch.setattr(gymnax_cartpole, "command", lambda *args: fake)
    found = gymnax_cartpole.one_start(1, 1, rounds=2, limit_s=60.0, turned=True)
    # The first training is not among the turns.
    assert found["ours"]["turn_s"] == found["whole_jit"]["turn_s"] == [0.5, 0.5]
    assert found["ours"]["steps"] == 512
    assert found["simulation_s"] == 0.1
    rounds = gymnax_cartpole.PROFILE_ROUNDS
    assert found["ours"]["profile_s"] == {"turn": [0.5] * rounds, "double": [0.7] * rounds}
    assert gymnax_cartpole.summary([found])["return"]["ours"]["return"] == 7.0


def test_ratios_of_whole_trainings():
    found = gymnax_cartpole.summary([gymnax_start(0.5), gymnax_start(0.5)])
    assert found["training_speed_ratio"]["median"] == 0.5
    assert found["first_result_ratio"]["median"] == 0.5
    assert found["env_steps_per_s"] == {"ours": 1000.0, "whole_jit": 2000.0}
    assert found["return"]["ours"] == {"return": 450.0, "training_return": 350.0}


def test_advantages_of_the_whole_jit_are_sums_of_discounted_errors():
    settings = whole_jit.Settings(gamma=0.9, gae_lambda=0.8)
    value, reward, last = np.array([0.5, 1.0, -0.5]), np.array([1.0, 0.0, 2.0]), 3.0
    done = np.array([0.0, 1.0, 0.0])
    following = np.array([1.0, -0.5, last])
    error = reward + 0.9 * (1 - done) * following - value
    # The second step ended an episode: nothing flows back over it.
    expected = [error[0] + 0.9 * 0.8 * error[1], error[1], error[2]]
    zero = jnp.zeros((3, 1), jnp.float32)
    columns = (jnp.asarray(x, jnp.float32)[:, None] for x in (value, reward, done))
    rollout = whole_jit.Transition(zero, zero, zero, *columns)
    found = whole_jit._advantages(settings, rollout, jnp.full((1,), last, jnp.float32))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def results():
    """Every file of the report, one ratio of each lost, one side unmeasured."""
    settings = Settings(turns=5)
    runs = [brax_run(0.5)]
    source = {
        "command": "x.py", "git": {"commit": "abc"}, "date_utc": "2026-01-01T00:00:00+00:00",
        "device": {"cpu_count": 2}, "versions": {"jax": "0.10.2", "mujoco": "4.0.0"},
    }  # fmt: skip
    starts = [gymnax_start(0.5)]
    stepping = {
        "num_envs": 64,
        "seconds": {"native": [1.0], "mjx": [10.0]},
        "physics_steps_per_s": {"native": 1e5, "mjx": 1e3},
        "native_over_mjx": {"median": 100.0, "min": 90.0, "max": 110.0},
        "mjx_first_s": 30.0,
    }
    missing = {
        "num_envs": 4096,
        "seconds": {"native": [1.0]},
        "physics_steps_per_s": {"native": 1e5},
        "unmeasured": {"mjx": "no answer within 300 s"},
    }
    training = {
        "num_envs": 64,
        "unmeasured": {},
        "first_result_s": {"native": 20.0, "mjx": 90.0},
        "seconds": {"native": [1.0], "mjx": [20.0]},
        "env_steps_per_s": {"native": 1e4, "mjx": 5e2},
        "native_over_mjx": {"median": 20.0, "min": 19.0, "max": 21.0},
    }
    return {
        "brax_ppo": {
            "provenance": source,
            "settings": {"turns": 5, "num_envs": 256, "unroll_length": 32},
            "runs": runs,
            "summary": brax_ppo.summary(settings, runs),
        },
        "gymnax_cartpole": {
            "seeds": {
                "8": {
                    "provenance": {**source, "command": "y.py"},
                    "updates": 976,
                    "starts": starts,
                    "summary": gymnax_cartpole.summary(starts),
                }
            },
        },
        "native_mjx": {
            "stepping": [{**stepping, "provenance": source}, {**missing, "provenance": source}],
            "training": [training],
        },
    }


def test_the_report_shows_lost_ratios_and_sides_without_a_number():
    text = "\n".join(peers_report.markdown(results()))
    lost = [line for line in text.splitlines() if "**lost**" in line]
    assert any("Brax" in line and "0.50" in line for line in lost)
    assert any("8 seeds" in line and "0.50" in line for line in lost)
    assert not any("MJX" in line for line in lost)
    assert "no answer within 300 s" in text
    assert "compiling two larger" in text and "a head of its own" in text
    # Each origin once.
    assert text.count("`x.py`") == text.count("`y.py`") == 1
    # Where the time of a lost ratio goes: a quarter of ours is simulation.
    assert "25 %" in text
    # What twice the epochs add is the learner's.
    assert "ours 1.00 s, learner 40 %, simulation in gymnax 25 %" in text


def test_the_report_leaves_out_what_is_not_measured():
    text = "\n".join(peers_report.markdown({"native_mjx": results()["native_mjx"]}))
    assert "MJX" in text
    assert "Brax" not in text


def test_nothing_is_explained_where_nothing_is_lost():
    data = results()["brax_ppo"]
    data["summary"] = brax_ppo.summary(Settings(turns=5), [brax_run(2.0)])
    text = "\n".join(peers_report.markdown({"brax_ppo": data}))
    assert "2.00" in text
    assert "lost" not in text and "compiling" not in text
