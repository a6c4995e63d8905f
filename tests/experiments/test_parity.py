"""The parity experiment's counting and text; its physics is held by tests/envs/physics."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from experiments.parity import height_field, report, run


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


def test_a_ball_near_the_surface_of_a_height_field_has_the_same_contacts(monkeypatch):
    monkeypatch.setattr(height_field, "DEPTHS_M", (0.001, 0.02))
    near, deep = height_field.contacts(16)
    assert near["acceleration"]["median"] < 1e-4
    assert near["contacts"]["native"] >= 1.0 and near["contacts"]["mjx"] >= 1.0
    # The walls between prisms, which only the native engine keeps.
    assert deep["contacts"]["native"] > deep["contacts"]["mjx"] and deep["same_count"] < 0.5


def test_the_table_of_contacts_has_a_line_for_each_depth():
    apart = {"median": 0.2, "p95": 0.3, "worst": 0.4}
    count = {"native": 5.0, "mjx": 1.8}
    row = {"depth_m": 0.01, "same_count": 0.04, "contacts": count, "acceleration": apart}
    lines = report.contact_table([row])
    assert lines[2] == "| 10 mm | 5.0 | 1.8 | 4 % | 2.0e-01 / 3.0e-01 / 4.0e-01 |"
