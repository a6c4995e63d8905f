"""The cart-pole experiment: counts and rules by hand, and a tiny run from end to end."""

import dataclasses
import json
import types

import pytest

from experiments.cartpole import report, run
from experiments.cartpole.settings import SETTINGS, Config, configure_arm
from hinf_rl.errors import UserError


def fake_results(hinf_reward=0.96, free_reward=0.8, hinf_survival=0.5):
    """Results of two seeds and two attackers, with numbers chosen by hand."""

    def arm(reward, multiplier=None):
        names = run.CURVES
        return {
            "cells": {"nominal": {"survival": [1.0, 1.0], "task_reward": [reward, reward]}},
            "training": {
                "curves": {"iteration": [1], **{name: [[0.5, 0.7]] for name in names}},
                "dual": multiplier,
                "wall_s": 1.0,
            },
        }

    attacks = {
        "random": {"survival": [[0.2, 0.4], [0.9, 0.0]], "task_reward": [[0.1, 0.1], [0.1, 0.3]]},
        "hinf": {"survival": [[hinf_survival, 1.0]] * 2, "task_reward": [[0.5, 0.1]] * 2},
        "unconstrained": {"survival": [[0.0, 0.0]] * 2, "task_reward": [[0.3, 0.2]] * 2},
    }
    return {
        "config": {"setting": "main", "seeds": 2, "attackers": 2},
        "provenance": {
            "command": "run.py",
            "versions": {"python": "3.11", "jax": "0.10.2"},
            "device": {"cpu_count": 2},
            "date_utc": "2026-01-01T00:00:00+00:00",
        },
        "arms": {
            "random": arm(1.0),
            "unconstrained": arm(free_reward),
            "hinf": arm(hinf_reward, {"free": [60, 40], "against_slack": [59, 39]}),
        },
        "attacks": {"fall_0.9": {"arms": attacks}, "stepfall_0.9": {"arms": attacks}},
    }


def test_the_worst_attacker_of_each_seed_counts():
    worst = report.worst_attacks(fake_results(), "fall_0.9", "random")
    # Seed 0: 0.2 < 0.4. Seed 1: 0.0 < 0.9, with the task reward of that attacker.
    assert worst == {"survival": [0.2, 0.0], "task_reward": [0.1, 0.3]}


def test_at_equal_survival_the_lower_task_reward_counts():
    worst = report.worst_attacks(fake_results(), "fall_0.9", "unconstrained")
    assert worst["task_reward"] == [0.2, 0.2]


def test_acceptance_passes_on_numbers_that_meet_every_line():
    # 0.96 >= 0.95; 0.8 <= 0.92; 0.5 - (0.2 + 0.0) / 2 = 0.4 >= 0.2; 98 / 100 > 0.95.
    assert [holds for *_, holds in report.acceptance(fake_results())] == [True] * 4


@pytest.mark.parametrize(
    ("change", "line"),
    [({"hinf_reward": 0.94}, 0), ({"free_reward": 0.93}, 1), ({"hinf_survival": 0.29}, 2)],
)
def test_acceptance_misses_the_line_that_is_not_met(change, line):
    holds = [holds for *_, holds in report.acceptance(fake_results(**change))]
    assert [index for index, value in enumerate(holds) if not value] == [line]


def test_a_line_that_is_not_measured_is_open_and_does_not_pass():
    results = fake_results()
    results["attacks"] = {}
    assert [holds for *_, holds in report.acceptance(results)] == [True, True, None, True]
    assert "not measured yet | open |" in report.render(results)


def test_dual_agreement_counts_free_moves_only():
    # Two seeds. Seed 0: 1 -> 0.8 on slack +1 (agrees), -> 0.9 on slack +1 (wrong way),
    # -> 0 on slack +9 (clipped, left out). Seed 1: unpushed first, then 1 -> 1.2 on slack -1.
    names = ("constraint/multiplier", "constraint/slack", "constraint/intensity")
    rows = [
        ([0.8, 1.0], [1.0, 0.0], [0.5, 0.0]),
        ([0.9, 1.2], [1.0, -1.0], [0.5, 0.5]),
        ([0.0, 1.1], [9.0, 0.5], [0.5, 0.5]),
    ]
    log = [dict(zip(names, row, strict=True)) for row in rows]
    constraint = types.SimpleNamespace(multiplier="dual", multiplier_init=1.0, multiplier_max=10.0)
    counted = run.dual_agreement(log, types.SimpleNamespace(constraint=constraint))
    assert counted == {"free": [2, 2], "against_slack": [1, 2]}


def test_all_arms_of_a_setting_see_equal_steps_and_equal_nets():
    for name, setting in SETTINGS.items():
        runs = [configure_arm(Config(setting=name), setting, arm) for arm in setting.arms]
        assert len({run.total_steps for run in runs}) == 1
        assert len({(run.agent.actor, run.agent.critic, run.env) for run in runs}) == 1


def test_render_goes_between_its_markers_and_nowhere_else():
    text = "before\n<!-- main: begin -->old<!-- main: end -->\nafter"
    spliced = report.splice(text, "main", report.render(fake_results()))
    assert spliced.startswith("before") and spliced.endswith("after") and "old" not in spliced
    assert "| fall-seeking 0.9 N | 0.10 (0.00) | 0.00 (0.00) | 0.50 (0.50) |" in spliced
    with pytest.raises(UserError, match="markers"):
        report.splice("nothing", "main", "x")


@pytest.mark.long
def test_a_tiny_run_fills_every_cell_resumes_and_renders(tmp_path, monkeypatch):
    # The arms and the one attack that the acceptance rule needs: each compiles programs anew.
    main = SETTINGS["main"]
    small = dataclasses.replace(main, arms=main.arms[1:], attack_n=(0.9,))
    monkeypatch.setitem(SETTINGS, "main", small)
    config = Config(
        seeds=2, iterations=2, attackers=2, attack_iterations=1, num_envs=4, out=tmp_path
    )
    first = run.run(config)
    stored = json.loads((tmp_path / "main.json").read_text())
    assert list(first["arms"]) == ["random", "unconstrained", "hinf"]
    assert list(first["attacks"]) == ["fall_0.9", "task_0.9", "stepfall_0.9"]
    for arm in first["arms"]:
        for cell in report.cells_of(first, arm).values():
            assert len(cell["survival"]) == 2
            assert all(0.0 <= value <= 1.0 for value in cell["survival"])
    # A stage that was lost is made again from the saved policies, to the same numbers.
    lost = stored["attacks"].pop("fall_0.9")
    (tmp_path / "main.json").write_text(json.dumps(stored))
    again = run.run(config)["attacks"]["fall_0.9"]
    assert again["arms"] == lost["arms"]
    assert len(report.acceptance(first)) == 4
    readme = tmp_path / "README.md"
    readme.write_text("<!-- main: begin --><!-- main: end -->")
    report.main(tmp_path, readme)
    assert (tmp_path / "main.png").stat().st_size > 1000
    assert "nominal task reward" in readme.read_text()
