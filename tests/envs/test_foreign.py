"""What the adapters share: optional imports and the bound of the task reward."""

import re
import sys

import pytest

from hinf_rl.envs.foreign import AdapterConfig, TaskReward, import_optional, task_reward_bound
from hinf_rl.errors import UserError


def bound(known=None, is_part=False, **settings):
    return task_reward_bound("task", AdapterConfig(**settings), known, is_part=is_part)


def test_what_is_set_goes_before_what_is_known():
    known = TaskReward(10.0, 20.0)
    assert bound(known) == known
    assert bound(known, task_reward_max=5.0) == (5.0, 5.0)
    assert bound(known, task_reward_scale=3.0) == (10.0, 3.0)
    # Rewards that are never positive have no natural scale.
    assert bound(task_reward_max=0.0) == (0.0, 1.0)
    assert bound(task_reward_max=-2.0, task_reward_scale=4.0) == (-2.0, 4.0)


@pytest.mark.parametrize("known", [None, TaskReward(1.0, 1.0)])
def test_a_part_of_the_reward_is_not_bounded_by_the_whole(known):
    with pytest.raises(UserError, match="set task_reward_max"):
        bound(known, is_part=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"task_reward_max": float("nan")},
        {"task_reward_max": 1.0, "task_reward_scale": 0.0},
    ],
)
def test_bounds_are_numbers(settings):
    with pytest.raises(UserError, match="must be finite"):
        bound(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episode_length": 0}, "episode_length must be at least 1, got 0"),
        ({"dt_s": 0.0}, "dt_s must be positive"),
        ({"disturbance_limit": float("inf")}, "disturbance_limit must be positive and finite"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(UserError, match=message):
        AdapterConfig(**settings)


def test_a_missing_package_is_told_with_the_command_that_installs_it():
    with pytest.raises(UserError, match=re.escape('nowhere is not installed: pip install "x[y]"')):
        import_optional("nowhere.at.all", install="x[y]")


def test_a_broken_package_is_told_with_its_fault(tmp_path, monkeypatch):
    (tmp_path / "broken_one.py").write_text("import jax\njax.no_such_thing")
    (tmp_path / "lacking_one.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"broken_one is installed but breaks.*no_such_thing"):
        import_optional("broken_one", install="x")
    with pytest.raises(UserError, match="lacking_one lacks 'no_such_module'"):
        import_optional("lacking_one", install="x")
    assert "broken_one" not in sys.modules


def test_chatter_of_a_package_is_not_heard(tmp_path, monkeypatch, capsys):
    text = "import warnings\nprint('hello')\nwarnings.warn('old', DeprecationWarning)\nx = 1"
    (tmp_path / "chatty_one.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert import_optional("chatty_one", install="x").x == 1
    assert capsys.readouterr().out == ""
