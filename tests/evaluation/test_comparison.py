"""Comparisons against pair counting, known distributions and runs compared with themselves."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinf_rl.errors import UserError
from hinf_rl.evaluation import comparison, comparison_report, statistics
from hinf_rl.evaluation.measured import is_higher_better, measured_of


def _rows(conditions, seeds):
    # Few distinct values: ties are the case that is easily wrong.
    return st.lists(
        st.lists(st.integers(-3, 3).map(float), min_size=seeds, max_size=seeds),
        min_size=conditions,
        max_size=conditions,
    )


_PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda sizes: st.tuples(_rows(sizes[0], sizes[1]), _rows(sizes[0], sizes[2]))
)


@settings(deadline=None)
@given(_PAIRS)
def test_improvement_is_the_average_over_conditions_of_counted_pairs(pair):
    ours, theirs = pair
    averages = []
    for x_row, y_row in zip(ours, theirs, strict=True):
        points = [
            1.0 if x > y else 0.5 if x == y else 0.0 for x, y in itertools.product(x_row, y_row)
        ]
        averages.append(sum(points) / len(points))
    expected = sum(averages) / len(averages)
    found = comparison.improvement(ours, theirs, num_resamples=20)
    assert found.value == pytest.approx(expected)
    # Who beats whom is counted from both sides.
    turned = comparison.improvement(theirs, ours, num_resamples=20)
    assert found.value + turned.value == pytest.approx(1.0)


@settings(deadline=None, max_examples=30)
@given(_PAIRS)
def test_a_run_compared_with_itself_is_a_draw(pair):
    found = comparison.improvement(pair[0], pair[0], num_resamples=20)
    assert found.value == pytest.approx(0.5)


def test_improvement_by_hand():
    # Condition 1: 3 > 1, 3 > 2 of (1, 2) and 0 < 1, 0 < 2: 2 of 4. Condition 2: all equal, 1/2.
    found = comparison.improvement([[3, 0], [1, 1]], [[1, 2], [1, 1]])
    assert found.value == 0.5
    # Condition 2 now: 2 > 1, 2 > 1, 1 = 1, 1 = 1: (1 + 1 + 0.5 + 0.5) / 4 = 0.75.
    assert comparison.improvement([[3, 0], [2, 1]], [[1, 2], [1, 1]]).value == 0.625


def test_intervals_cover_the_chance_as_often_as_they_say():
    # X ~ N(1, 1) beats Y ~ N(0, 1) with probability Phi(1 / sqrt 2). A seed is equally lucky
    # under both conditions: resampling them apart would cover too rarely.
    truth = 0.5 * (1 + math.erf(1 / math.sqrt(2) / math.sqrt(2)))
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        ours = np.tile(generator.normal(1.0, 1.0, 15), (2, 1))
        theirs = np.tile(generator.normal(0.0, 1.0, 15), (2, 1))
        found = comparison.improvement(ours, theirs, confidence=0.8, num_resamples=300, seed=trial)
        covered += found.low <= truth <= found.high
    # 200 trials at 0.8: standard error 0.028; 15 values cost the percentile method a little.
    assert 0.70 <= covered / 200 <= 0.90


def test_one_seed_tells_no_interval():
    found = comparison.improvement([[1.0]], [[0.0, 2.0]])
    assert found == (0.5, None, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [([[1.0]], [[1.0], [2.0]], "equal conditions"), ([1.0], [1.0], "conditions, seeds")],
)
def test_shapes_that_do_not_fit_are_named(ours, theirs, message):
    with pytest.raises(UserError, match=message):
        comparison.improvement(ours, theirs)


def _cell(survived, error, episodes=20):
    share = survived / episodes
    return {
        "kind": "continuous",
        "magnitude": 50.0,
        "num_episodes": episodes,
        "num_survived": survived,
        "survival": [share, max(share - 0.1, 0.0), min(share + 0.1, 1.0)],
        "task_reward_fraction": [0.5 * share, 0.0, 1.0],
        "tracking": {"velocity_error": [error, error - 0.01, error + 0.01]},
    }


def _results(survived, *, plan=1, names=("nominal", "continuous-1", "deliberate-1"), **protocol):
    seeds = [
        {"cells": {name: _cell(count - i, 0.1 * (i + 1)) for i, name in enumerate(names)}}
        for count in survived
    ]
    return {
        "task": "toy",
        "protocol": {"num_steps": 40, "dt_s": 0.1, "unit": "N", "reference": 50.0, **protocol},
        "per_seed": seeds,
        "attack_plan": {"iterations": plan},
    }


def _arm(label, survived, **options):
    return measured_of(label, _results(survived, **options), algorithm="hinf")


def test_estimates_are_those_of_the_statistics():
    arms = [_arm("a", [20, 18, 16, 4]), _arm("b", [10, 10, 10])]
    found = comparison.compare(arms)
    assert found["statistic"] == "interquartile mean"
    # Of 20, 18, 16 and 4 of 20 the extremes are dropped: (18 + 16) / 2 / 20.
    assert found["measures"]["survival"]["nominal"]["a"][0] == pytest.approx(0.85)
    episodes = np.arange(20)[None] < np.array([[20], [18], [16], [4]])
    expected = statistics.stratified_interval(episodes, statistic=statistics.interquartile_mean)
    np.testing.assert_allclose(found["measures"]["survival"]["nominal"]["a"], expected)
    # Seed by seed, all but the last of a's beat b's under each condition: 3 of 4.
    assert found["improvement"]["survival"]["b"]["value"] == 0.25
    # An error is better when it is smaller; these are equal, whatever the seed.
    assert found["improvement"]["velocity error"]["b"]["value"] == 0.5
    # Over conditions: 12 values of b, of which 10/20, 9/20 and 8/20 four each: the middle 6.
    assert found["overall"]["survival"]["b"][0] == pytest.approx(0.45, abs=0.01)


def test_two_seeds_are_averaged_and_one_keeps_its_episodes_interval():
    found = comparison.compare([_arm("a", [20, 10]), _arm("b", [12])])
    assert found["statistic"] == "mean"
    survival = found["measures"]["survival"]["nominal"]
    assert survival["a"][0] == 0.75
    assert survival["b"] == pytest.approx([0.6, 0.5, 0.7])
    assert found["improvement"]["survival"]["b"] == {"value": 0.5, "low": None, "high": None}


def test_attacks_of_different_strength_are_not_compared():
    found = comparison.compare([_arm("a", [20]), _arm("b", [20], plan=2)])
    assert list(found["measures"]["survival"]) == ["nominal", "continuous-1"]
    assert any("deliberate" in note for note in found["notes"])


def test_conditions_that_one_run_lacks_are_left_out_and_named():
    found = comparison.compare([_arm("a", [20]), _arm("b", [20], names=("nominal", "sudden-2"))])
    assert list(found["measures"]["survival"]) == ["nominal"]
    assert any("continuous-1" in note and "sudden-2" in note for note in found["notes"])


def test_what_cannot_be_compared_is_said():
    one = _arm("a", [20])
    with pytest.raises(UserError, match="at least two"):
        comparison.compare([one])
    with pytest.raises(UserError, match="of one task"):
        comparison.compare([one, one._replace(task="other")])
    with pytest.raises(UserError, match="evaluate"):
        comparison.compare([one, _arm("b", [20], num_steps=80)])
    with pytest.raises(UserError, match="share no condition"):
        comparison.compare([one, _arm("b", [20], names=("strange",))])
    with pytest.raises(UserError, match="no values per seed"):
        measured_of("a", {"task": "toy", "per_seed": []}, algorithm="hinf")


def test_programs_and_diffusion_policies_have_values_per_seed():
    seed = {
        "policy": {"pass@1": 0.5, "pass@5": 0.75, "mean_outcome": -0.5},
        "rankers": {"random": {"top@1": 0.5, "distinct@5": 0.6, "auc": 0.5}},
    }
    programs = measured_of(
        "a", {"task": "t", "per_problem": 8, "seeds": [seed, seed]}, algorithm="bcoder"
    )
    assert programs.values["nothing ranked"]["pass@5"].tolist() == [0.75, 0.75]
    assert programs.values["ranked by random"]["auc"].tolist() == [0.5, 0.5]
    tuned = {"reward": [1.0, 2.0], "kl": [0.1, 0.2]}
    results = {
        "task": "t",
        "num_samples": 4,
        "beta": 0.1,
        "per_seed": {"reference": tuned, "fine-tuned": tuned},
    }
    diffusion = measured_of("a", results, algorithm="prdp")
    assert diffusion.num_seeds == 2
    found = comparison.compare([diffusion, diffusion._replace(label="b")])
    assert found["improvement"]["kl"]["b"]["value"] == 0.5


def test_the_direction_of_a_measure():
    assert is_higher_better("survival") is True
    assert is_higher_better("velocity error") is False
    assert is_higher_better("colour") is None


def test_the_report_shows_what_was_compared(tmp_path):
    arms = [_arm("a", [20, 18, 16]), _arm("b", [10, 12, 4])]
    source = {
        "path": "runs/a",
        "command": "hinf-rl train toy",
        "commit": "0123456789abcdef",
        "evaluated": None,
        "env_steps": 1000,
        "wall_s": 2.0,
    }
    found = {**comparison.compare(arms), "provenance": {"a": source, "b": source}}
    cells = {
        "nominal": {**_cell(20, 0.1), "kind": "nominal", "magnitude": 0.0},
        "continuous-1": _cell(10, 0.1),
        "deliberate-1": {**_cell(5, 0.1), "kind": "deliberate"},
    }
    results = {"task": "toy", "protocol": {"unit": "N"}, "cells": cells}
    path = tmp_path / "compare.md"
    comparison_report.write_comparison(
        path, found, results={"a": results, "b": results}, logs={"a": [], "b": []}
    )
    text = path.read_text()
    assert "| chance of beating a | b |" in text
    assert "| run | algorithm | seeds | steps per seed | training (s) |" in text
    assert "| a | hinf | 3 | 1,000 | 2 |" in text
    assert "## Survival (higher is better)" in text and "| **all** |" in text
    assert "(compare-survival.png)" in text and "(compare-improvement.png)" in text
    # Nothing was logged: no curves, and no picture of an earlier call in their place.
    assert "compare-curves.png" not in text
    assert (tmp_path / "compare.json").exists()
