"""Metrics to Weights & Biases, with a stand-in that keeps what it is told."""

import dataclasses
import importlib.util
import sys
import types

import pytest

from hinf_rl.errors import UserError
from hinf_rl.training import wandb_log
from hinf_rl.training.run_directory import RunConfig, RunDirectory


@dataclasses.dataclass(frozen=True)
class Settings:
    gamma: float = 0.9


@pytest.fixture
def told(monkeypatch):
    """Puts a fake `wandb` in place; returns the calls that it got."""
    calls = []

    def init(**options):
        calls.append(("init", options))
        return types.SimpleNamespace(
            define_metric=lambda name, **options: calls.append(("define", (name, options))),
            log=lambda values: calls.append(("log", values)),
            finish=lambda exit_code: calls.append(("finish", exit_code)),
        )

    module = types.ModuleType("wandb")
    module.init = init
    module.__spec__ = importlib.util.spec_from_loader("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


def _log(path):
    config = RunConfig(task="toy", algorithm="hinf", seeds=2, env=Settings(), agent=Settings())
    return wandb_log.WandbLog("robust", RunDirectory(path), config)


def test_each_record_is_sent_with_one_curve_per_seed(tmp_path, told):
    with _log(tmp_path / "run") as log:
        log.write(
            {"iteration": 3, "env_steps": 30, "loss": [1.0, None], "single": [2.0], "wall_s": 0.5}
        )
    names = [name for name, _ in told]
    assert names == ["init", "define", "define", "log", "finish"]
    options = told[0][1]
    assert options["project"] == "robust" and options["name"] == "run"
    assert options["config"]["agent.gamma"] == 0.9 and options["config"]["seeds"] == 2
    assert told[2][1] == ("*", {"step_metric": "env_steps"})
    # A value that is not finite is null in the log, and no point of a curve.
    assert told[3][1] == {
        "iteration": 3,
        "env_steps": 30,
        "loss/seed_0": 1.0,
        "single": 2.0,
        "wall_s": 0.5,
    }
    assert told[4][1] == 0


def test_a_resumed_run_goes_on_with_its_id(tmp_path, told):
    for _ in range(2):
        with _log(tmp_path):
            pass
    with _log(tmp_path / "another"):
        pass
    ids = [options["id"] for name, options in told if name == "init"]
    assert ids[0] == ids[1] != ids[2]
    assert all(options["resume"] == "allow" for name, options in told if name == "init")


def test_an_error_in_training_ends_the_run_as_failed(tmp_path, told):
    with pytest.raises(ZeroDivisionError), _log(tmp_path):
        raise ZeroDivisionError
    assert told[-1] == ("finish", 1)


def test_what_wandb_refuses_is_told_with_the_way_out(tmp_path, told, monkeypatch):
    def refuse(**options):
        raise RuntimeError("no API key configured")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(UserError, match="WANDB_MODE=offline"), _log(tmp_path):
        pass


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"hinf-rl\[wandb\]"):
        wandb_log.check_installed()
