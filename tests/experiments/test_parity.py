"""The parity experiment's counting and text; its physics is held by tests/envs/physics."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from experiments.parity import report, run


def test_robots_that_parted_are_counted_by_class():
    row = run._fall_row("one step", True, np.array([0.0, 0.05, 0.2, 3.0]))
    # Two of four are beyond 0.1 rad/s.
    assert (row["count"], row["parted"], row["trunk_on_floor"]) == (4, 2, True)
    assert row["qvel"]["worst"] == 3.0
    assert run._fall_row("one step", False, np.zeros(0))["qvel"] is None


def test_the_report_has_a_line_for_each_class_of_robots():
    rows = [run._fall_row("one step", state, np.full(3, 0.2 * state)) for state in (False, True)]
    rows.append(run._fall_row("50 steps", False, np.zeros(0)))
    lines = report.fall_table(rows)
    assert lines[2] == "| one step | never down | 3 | 0 | 0.0e+00 / 0.0e+00 / 0.0e+00 |"
    assert lines[3] == "| one step | on the floor | 3 | 3 | 2.0e-01 / 2.0e-01 / 2.0e-01 |"
    assert lines[4] == "| 50 steps | never down | 0 | 0 |  |"
