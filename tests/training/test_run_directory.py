"""A run can be opened once, gone on with as it was, and loaded from its directory alone."""

import dataclasses
import json
import sys
import types

import jax
import pytest

from hinf_rl.errors import UserError, unknown_name
from hinf_rl.training import run_directory as runs
from hinf_rl.training.loop import seed_keys, train
from hinf_rl.training.provenance import provenance


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvConfig:
    mass_kg: float = 1.0
    limit: float = float("inf")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    gamma: float = 0.99
    width: int = 3
    clip: float | None = None


@pytest.fixture
def registry(monkeypatch, dummy):
    """Stands in for the task registry and the algorithm."""

    def get_task(name):
        if name != "toy":
            raise unknown_name("task", name, ["toy"])
        workload = types.SimpleNamespace(
            make_algorithm=lambda task, env, agent: dummy(width=agent.width)
        )
        return types.SimpleNamespace(
            env_config=EnvConfig(), agent_config=AgentConfig(), workload=workload
        )

    tasks = types.ModuleType("hinf_rl.tasks")
    tasks.get_task = get_task
    monkeypatch.setitem(sys.modules, "hinf_rl.tasks", tasks)


def toy(**changes):
    return runs.RunConfig(
        **{
            "task": "toy",
            "algorithm": "hinf",
            "env": EnvConfig(),
            "agent": AgentConfig(),
            **changes,
        }
    )


def trained(path, config, iterations=3):
    run = runs.open_run(path, config)
    algorithm = runs.make_algorithm(config)
    return train(
        algorithm, run, iterations=iterations, keys=seed_keys(config.seed, config.seeds)
    ).carry


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_run_loads_from_its_directory_alone(tmp_path, registry, bits, seeds):
    config = toy(seeds=seeds, agent=AgentConfig(gamma=0.5, width=4))
    carry = trained(tmp_path / "run", config)
    loaded, algorithm, again = runs.load_run(tmp_path / "run")
    assert loaded == config
    assert algorithm.env_steps_per_iteration == 10
    assert bits(again) == bits(carry)


def test_a_new_run_refuses_a_used_directory(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(UserError, match="choose another --output"):
            runs.open_run(tmp_path, toy(), resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_existing_run_needs_resume(tmp_path):
    runs.open_run(tmp_path / "run", toy())
    with pytest.raises(UserError, match="--resume"):
        runs.open_run(tmp_path / "run", toy())
    again = runs.open_run(tmp_path / "run", toy(total_steps=2_000_000), resume=True)
    first = again.manifest.read_text(), again.config.read_text()
    assert "resumed" in json.loads(first[0])
    again.begin_session()
    assert len(json.loads(again.manifest.read_text())["resumed"]) == 1
    assert again.config.read_text() == first[1].replace("1000000", "2000000")


def test_resume_takes_a_longer_run_but_no_other_setting(tmp_path):
    path = tmp_path / "run"
    runs.open_run(path, toy())
    runs.open_run(path, toy(total_steps=2_000_000, checkpoint_every=7), resume=True)
    before = (path / "config.toml").read_bytes()
    with pytest.raises(UserError, match=r"agent\.gamma = 0\.99, not 0\.5"):
        runs.open_run(path, toy(agent=AgentConfig(gamma=0.5)), resume=True)
    with pytest.raises(UserError, match=r"seeds = 1, not 2"):
        runs.open_run(path, toy(seeds=2), resume=True)
    assert (path / "config.toml").read_bytes() == before


def test_resume_of_nothing_makes_a_run(tmp_path):
    run = runs.open_run(tmp_path / "a" / "run", toy(), resume=True)
    assert run.config.exists()


def test_missing_and_corrupt_pieces_are_named(tmp_path, registry):
    with pytest.raises(UserError, match="does not exist"):
        runs.load_run(tmp_path / "absent")
    with pytest.raises(UserError, match=r"config\.toml is missing"):
        runs.load_run(tmp_path)
    path = tmp_path / "run"
    run = runs.open_run(path, toy())
    with pytest.raises(UserError, match="no checkpoint"):
        runs.load_run(path)
    whole = run.config.read_text()
    for text, match in (
        (whole[:10], "not valid TOML"),
        ("seed = 1\n", "names no task"),
        (whole.replace('"toy"', '"tow"'), "'toy'"),
        (whole.replace("gamma", "gama"), r"agent\.gama"),
        (whole.replace("seeds = 1", 'seeds = "x"'), "seeds"),
    ):
        run.config.write_text(text)
        with pytest.raises(UserError, match=match):
            runs.load_run(path)
    run.config.write_text(whole)
    run.manifest.write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        runs.open_run(path, toy(), resume=True)


def test_a_checkpoint_of_other_settings_does_not_load(tmp_path, registry):
    path = tmp_path / "run"
    trained(path, toy())
    text = (path / "config.toml").read_text()
    (path / "config.toml").write_text(text.replace("gamma = 0.99", "gamma = 0.98"))
    with pytest.raises(UserError, match=r"agent\.gamma.*0\.99.*0\.98"):
        runs.load_run(path)


def test_two_processes_cannot_train_in_one_directory(tmp_path):
    run = runs.open_run(tmp_path / "run", toy())
    with run.lock(), pytest.raises(UserError, match="another process"), run.lock():
        pass
    with run.lock():
        pass


@pytest.mark.parametrize("changes", [{"seeds": 0}, {"total_steps": 0}, {"seed": -1}])
def test_settings_out_of_range_are_named(changes):
    with pytest.raises(UserError, match=next(iter(changes))):
        toy(**changes)


def test_a_module_run_by_python_is_named_so_that_it_can_be_run_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/experiments/claim/run.py", "--seeds", "3"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "experiments.claim.run", "--seeds", "3"])
    assert provenance()["command"] == "python -m experiments.claim.run --seeds 3"


def test_provenance_is_json_without_machine_paths(monkeypatch, tmp_path):
    inside = str(tmp_path / "deep" / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["/opt/bin/hinf-rl", "train", inside, f"--output={inside}", "/etc/x"]
    )
    monkeypatch.setattr(sys, "orig_argv", ["python", *sys.argv])
    found = provenance()
    assert found["command"] == "hinf-rl train deep/runs --output=deep/runs x"
    assert json.loads(json.dumps(found)) == found
    assert found["versions"]["jax"] == jax.__version__
    assert found["device"]["count"] == jax.device_count()
    assert found["date_utc"].endswith("+00:00")


def test_a_copy_without_history_may_name_its_commit(monkeypatch, tmp_path):
    monkeypatch.setattr("hinf_rl.__file__", str(tmp_path / "hinf_rl" / "__init__.py"))
    monkeypatch.delenv("HINF_RL_COMMIT", raising=False)
    assert provenance()["git"] == {"commit": None, "dirty": None}
    monkeypatch.setenv("HINF_RL_COMMIT", "0123abc")
    assert provenance()["git"] == {"commit": "0123abc", "dirty": None}
