"""The verdicts of the PRDP experiment, on results made up by hand."""

import numpy as np
import pytest

from experiments.prdp.acceptance import images_verdicts, objective, reach_verdicts, ring_verdicts
from experiments.prdp.settings import ARMS


def arm(name, values, members=None):
    """A file of results: measurement -> last value of each member; two checkpoints, 3 seeds."""
    members = members or {"": {}}
    held_out = {
        measure: [[[start, end] for _ in range(3)] for start, end in per_member]
        for measure, per_member in values.items()
    }
    return {
        "arm": name,
        "config": {"beta": 0.05},
        "members": members,
        "checkpoints": [0, 10],
        "held_out": held_out,
    }


ORACLE = {
    "beta": {
        beta: {"reward": [1.2] * 3, "objective": [best] * 3}
        for beta, best in (("0.05", 1.0), ("0.25", 0.6))
    }
}


def a1(alignment, kl):
    members = {"beta 0.05": {"beta": 0.05}, "beta 0.25": {"beta": 0.25}}
    return arm("ring_a1", {"alignment": [(0, alignment), (0, 0.7)], "kl": [(0, kl), (0, 1.0)]},
               members)  # fmt: skip


def passed(verdicts, start):
    return {one.passed for one in verdicts if one.claim.startswith(start)}


def test_the_objective_takes_the_members_own_price_of_kl():
    data = a1(1.15, 4.0)
    np.testing.assert_allclose(objective(data, "beta 0.05"), 1.15 - 0.2)
    np.testing.assert_allclose(objective(data, "beta 0.25"), 0.7 - 0.25)


@pytest.mark.parametrize(
    ("alignment", "kl", "met"), [(1.15, 4.0, True), (1.15, 8.0, False), (0.8, 0.0, False)]
)
def test_a1_asks_for_reward_and_objective(alignment, kl, met):
    verdicts = list(ring_verdicts({"ring_a1": a1(alignment, kl)}, ORACLE))
    assert (passed(verdicts, "A1") == {True}) == met


def test_more_than_the_oracle_is_a_bug():
    verdicts = list(ring_verdicts({"ring_a1": a1(1.3, 4.0)}, ORACLE))
    assert passed(verdicts, "No arm exceeds") == {False}


def test_reach_compares_success_and_kl():
    found = {
        "reach_prdp": arm("reach_prdp", {"success": [(0.7, 0.9)], "kl": [(0, 3.0)]}),
        "reach_ddpo_batch": arm("reach_ddpo_batch", {"kl": [(0, 5.0)]}),
    }
    verdicts = list(reach_verdicts(found))
    assert [one.passed for one in verdicts] == [True, False]


def test_images_ask_for_monotone_trade_offs():
    two = {"beta 0.1": {}, "beta 0.02": {}}
    near = arm("images_prdp_near", {"reward": [(0, 0.3), (0, 0.7)],
                                    "likeness": [(0, 0.97), (0, 0.85)]}, two)  # fmt: skip
    far = arm(
        "images_prdp_far",
        {
            "reward": [(0, 0.95), (0, 0.99)],
            "likeness": [(0, 0.6), (0, 0.7)],
            "class_accuracy": [(0, 0.99), (0, 0.9)],
        },
        {"beta 0.003": {}, "beta 0.0003": {}},
    )
    verdicts = list(images_verdicts({"images_prdp_near": near, "images_prdp_far": far}))
    assert passed(verdicts, "C: PRDP at beta 0.003") == {True}
    assert passed(verdicts, "C: from beta 0.1") == {False}


def test_arms_have_names_of_their_own_and_measure_at_the_end():
    assert len(ARMS) > 15
    for name, one in ARMS.items():
        assert name.startswith(one.task.split("_")[0])
        assert one.config.iterations % one.every == 0
