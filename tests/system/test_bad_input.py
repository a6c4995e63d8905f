"""Every wrong input ends with exit code 2, one line that helps, and an untouched disk."""

import jax
import pytest

from experiments.bad_input import damage
from experiments.bad_input.cases import CASES, Case
from experiments.bad_input.run import Outcome, attempt, snapshot


@pytest.fixture(scope="module", autouse=True)
def clean_up():
    yield
    damage.forget_trained()


@pytest.fixture(autouse=True)
def settings_of_jax():
    """The command line chooses device and precision for its process."""
    names = ("jax_platforms", "jax_default_matmul_precision")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_wrong_input_is_told_and_touches_nothing(case, tmp_path):
    outcome = attempt(case, tmp_path)
    assert outcome.faults(case) == [], outcome.message


def test_the_cases_differ_and_are_many():
    assert len({(case.text, case.prepare) for case in CASES}) == len(CASES) >= 40


def test_faults_are_named():
    case = Case("command", "fly", "did you mean")
    good = Outcome(2, "error: unknown command 'fly'; did you mean 'list'?", False, [])
    assert good.faults(case) == []
    bad = Outcome(1, "oh no\n\n\n" + 400 * "x", True, ["run/model"])
    assert len(bad.faults(case)) == 7


def test_a_snapshot_sees_every_change(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "c").write_text("1")
    first = snapshot(tmp_path)
    assert sorted(first) == ["a", "a/b", "a/c"]
    (tmp_path / "a" / "c").write_text("2")
    assert snapshot(tmp_path)["a/c"] != first["a/c"]
    (tmp_path / "a" / "b").rmdir()
    assert "a/b" not in snapshot(tmp_path)
