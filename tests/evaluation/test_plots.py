import itertools
import types

import numpy as np
import pytest
from PIL import Image

from hinf_rl.errors import UserError
from hinf_rl.evaluation import gait, parallel, plots, rose, style
from hinf_rl.evaluation.episode import Recording


def _log(num_seeds=3, shift=0.0):
    generator = np.random.default_rng(0)
    records = []
    for iteration in range(1, 31):
        share = iteration / 30
        noise = 0.05 * generator.normal(size=num_seeds)
        records.append(
            {
                "iteration": iteration,
                "env_steps": 50_000 * iteration,
                "episode/return": (30 * share + shift + noise).tolist(),
                "env/task_share": (share - 0.02 + 0.1 * noise).tolist(),
                "constraint/slack": (0.3 - share + noise).tolist(),
                "constraint/multiplier": (1 + share**2 + noise).tolist(),
            }
        )
    return records


def _cell(kind, magnitude, survival, **labels):
    return {
        "kind": kind,
        "fraction": magnitude / 100,
        "magnitude": magnitude,
        "survival": [survival, max(survival - 0.1, 0.0), min(survival + 0.05, 1.0)],
        "force": [0.7 * magnitude, 0.0, 0.0],
        "rose": np.abs(np.cos(np.arange(16) / 3) * magnitude / 16).tolist(),
        "rose_survival": [None, *np.linspace(0, 1, 15).tolist()],
        **labels,
    }


def _results(weakness=0.005):
    cells = {"nominal": _cell("nominal", 0.0, 1.0)}
    for kind, sizes in (("continuous", (25, 50, 100, 150)), ("sudden", (100, 150, 200))):
        for size in sizes:
            cell = _cell(kind, float(size), float(np.exp(-weakness * size)))
            cells[f"{kind}-{size / 100:g}"] = cell
    attacks = {
        name: _cell("deliberate", 100.0, 0.4, attacker=name, objective=name[:4])
        for name in ("task-0", "task-1", "fall-0", "fall-1")
    }
    cells["deliberate-1"] = attacks["fall-0"]
    return {"task": "toy", "protocol": {"unit": "N"}, "cells": cells, "attacks": attacks}


def _check_picture(path):
    """A picture of fair size that is neither blank nor a single colour."""
    image = np.asarray(Image.open(path).convert("L"))
    assert min(image.shape) >= 250
    assert 0.005 < (image < 128).mean() < 0.5


@pytest.mark.smoke
def test_learning_curves_of_two_arms(tmp_path):
    arms = {"ours": [_log(), _log(1)], "baseline": [_log(2, shift=-5.0)]}
    _check_picture(plots.learning_curves(arms, tmp_path / "new" / "curves.png"))


def test_curves_meet_on_the_steps_that_all_runs_cover():
    # A run of 30 and one of 10 records: the grid ends at 500 000 steps; its values are exact on
    # the straight line 30 * steps / 1.5e6.
    line = [{"env_steps": 50_000 * i, "episode/return": [float(i), 2.0 * i]} for i in range(1, 31)]
    steps, curves = plots._curves([line, line[:10]], "episode/return")
    assert steps[0] == 50_000 and steps[-1] == 500_000
    assert curves.shape == (4, 200)
    np.testing.assert_allclose(curves[[0, 2]], np.tile(steps / 50_000, (2, 1)))
    np.testing.assert_allclose(curves[1], 2 * steps / 50_000)


def test_a_value_that_was_not_finite_is_bridged():
    line = [{"env_steps": i, "x": [float(i) if i != 3 else None, 1.0]} for i in range(1, 6)]
    steps, curves = plots._curves([line], "x")
    np.testing.assert_allclose(curves[0], steps)


def test_survival_beside_a_baseline(tmp_path):
    results = {"ours": _results(), "baseline": _results(0.02)}
    _check_picture(plots.survival_against_force(results, tmp_path / "survival.png"))


def test_multiplier_phase(tmp_path):
    _check_picture(plots.multiplier_phase([_log()], tmp_path / "phase.png"))


@pytest.mark.smoke
def test_attack_rose(tmp_path):
    _check_picture(rose.attack_rose(_results(), tmp_path / "rose.png"))


def test_what_cannot_be_drawn_is_named(tmp_path):
    path = tmp_path / "none.png"
    with pytest.raises(UserError, match="none of the curves"):
        plots.learning_curves({"ours": [[]]}, path)
    with pytest.raises(UserError, match="no constraint"):
        plots.multiplier_phase([[]], path)
    with pytest.raises(UserError, match="no attack at"):
        rose.attack_rose(_results(), path, fraction=0.5)
    other = {**_results(), "task": "other"}
    with pytest.raises(UserError, match="one task"):
        plots.survival_against_force({"ours": _results(), "theirs": other}, path)
    bare = {**_results(), "cells": {"nominal": _cell("nominal", 0.0, 1.0)}}
    with pytest.raises(UserError, match="no disturbed cell"):
        plots.survival_against_force({"ours": bare}, path)
    assert not path.exists()


def test_lines_differ_in_more_than_colour():
    lines = [style.line(i) for i in range(7)]
    assert len({str(line["linestyle"]) for line in lines}) == 7
    assert len({line["marker"] for line in lines}) == 7
    # Lightness of the colours (ITU-R BT.709) of neighbours differs: they can be told in grey.
    rgb = [[int(line["color"][i : i + 2], 16) / 255 for i in (1, 3, 5)] for line in lines]
    light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in rgb]
    assert all(abs(a - b) > 0.15 for a, b in itertools.pairwise(light))


def test_stances_are_runs_of_contact():
    # Steps of 20 ms: on the ground in steps 0 and 1, in 4, and from 6 to the end.
    contact = np.array([True, True, False, False, True, False, True, True])
    found = gait.stances(contact, 0.02)
    np.testing.assert_allclose(found, [(0.0, 0.04), (0.08, 0.02), (0.12, 0.04)])
    assert gait.stances(np.zeros(3, bool), 0.02) == []


def _episode(length=150, **physics):
    force = np.zeros((length, 3), np.float32)
    force[50:60] = 60.0
    return Recording(types.SimpleNamespace(**physics), None, force, length < 200, 0.02)


def test_gait_picture(tmp_path):
    t = np.arange(150)[:, None]
    trot = np.sin(0.3 * t + np.array([0, np.pi, np.pi, 0])) > 0
    episodes = {"no force": _episode(in_contact=trot), "pushed": _episode(in_contact=trot)}
    _check_picture(gait.gait_picture(episodes, tmp_path / "gait.png"))
    with pytest.raises(UserError, match="foot contacts"):
        gait.gait_picture({"a": _episode()}, tmp_path / "none.png")


def test_parallel_coordinates(tmp_path):
    rows = [
        {
            "settings": {"agent.gamma": gamma, "agent.hidden": hidden},
            "metrics": {"episode/return": [float(gamma), None], "env/task_share": [None, None]},
        }
        for gamma in ("0.5", "1", "10")
        for hidden in ("(8,)", "(16,)")
    ]
    _check_picture(parallel.parallel_coordinates(rows, tmp_path / "parallel.png"))


def test_an_axis_of_settings_is_in_the_order_of_numbers():
    heights, ticks = parallel._setting_axis(["10", "0.5", "2", "0.5"])
    assert heights == [1.0, 0.0, 0.5, 0.0]
    assert ticks == {0.0: "0.5", 0.5: "2", 1.0: "10"}
    assert list(parallel._setting_axis(["(128,8)", "(64,8)", "3e-4", "true"])[1].values()) == [
        "3e-4",
        "(64,8)",
        "(128,8)",
        "true",
    ]


def test_an_axis_of_a_metric_runs_from_lowest_to_highest():
    heights, ticks = parallel._metric_axis([3.0, 1.0, 5.0])
    assert heights == [0.5, 0.0, 1.0]
    assert (ticks[0.0], ticks[1.0]) == ("1", "5")
    # All alike: in the middle, and no division by zero.
    assert parallel._metric_axis([2.0, 2.0])[0] == [0.5, 0.5]
