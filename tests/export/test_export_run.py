"""`hinf-rl export` writes checked files of any task, and refuses what it cannot vouch for."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest

from hinf_rl import cli
from hinf_rl.errors import UserError
from hinf_rl.export import export_run, files, load_policy, load_runner, read_metadata
from hinf_rl.export.source import evaluated_survival, load_source
from hinf_rl.training.files import read_json, write_json


@pytest.fixture(autouse=True)
def settings_of_jax():
    """The command line chooses device and precision for its process."""
    names = ("jax_platforms", "jax_default_matmul_precision")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def run(make_run):
    return make_run("cartpole", {"seeds": 2, "agent.normalize_observations": "true"})


@pytest.fixture(scope="module")
def prepared(run):
    return files.prepare_export(run, seed_index=1)


def test_the_command_says_what_it_wrote(run, capsys):
    assert cli.main(["export", str(run), "--format", "numpy", "--seed-index", "1"]) == 0
    said = capsys.readouterr().out
    assert "cartpole, nominal, seed 1, iteration 3" in said
    assert "on 768 recorded observations: actions differ by at most" in said
    assert said.splitlines()[-1] == f"policy: {run}/export/policy.py"
    assert load_runner(run / "export" / "policy.py").metadata["seed_index"] == 1


def test_every_format_of_a_run_agrees(prepared, tmp_path):
    made = [
        files.write_export(prepared, kind, output=tmp_path / f"p{suffix}")
        for kind, suffix in files.SUFFIXES.items()
    ]
    onnx, numpy = load_runner(made[0].path), load_runner(made[1].path)
    policy = load_policy(made[2].path)
    observation = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    actions = np.asarray(policy({"policy": observation}))
    assert np.abs(actions).max() > 0.1
    np.testing.assert_allclose(onnx.step(observation=observation), actions, atol=1e-5)
    np.testing.assert_allclose(numpy.step(observation=observation), actions, atol=1e-5)
    np.testing.assert_array_equal(actions, prepared.source.policy({"policy": observation}))
    for metadata in (onnx.metadata, numpy.metadata, read_metadata(made[2].path)):
        assert metadata["task"] == "cartpole"
        assert metadata["output"] == "action"
        assert metadata["control_dt_s"] == 0.02
        assert metadata["trained_with"]["versions"]["jax"] == jax.__version__
        assert metadata["checked"]["max_abs_difference"]["action"] < 1e-5
        assert "robot" not in metadata


def test_members_of_a_run_are_different_policies(run, prepared):
    first = load_source(run, seed_index=0).policy
    seen = {"policy": np.ones((1, 5), np.float32)}
    assert np.abs(np.asarray(first(seen) - prepared.source.policy(seen))).max() > 1e-2


def test_a_linear_policy_is_its_gain(make_run, tmp_path):
    run = make_run("lq")
    made = export_run(run, "onnx", output=tmp_path / "gain.onnx")
    runner = load_runner(made.path)
    gain = load_source(run).policy.params["mean"]["params"]["gain"]["kernel"]
    x = np.array([[1.0, -2.0]], np.float32)
    np.testing.assert_allclose(runner.step(observation=x), x @ np.asarray(gain), atol=1e-6)


def test_wrong_requests_are_told_and_write_nothing(run, make_run, tmp_path, capsys):
    unfinished = make_run("cartpole", done=2)
    (tmp_path / "folder.onnx").mkdir()
    empty = shutil.copytree(run, tmp_path / "empty")
    shutil.rmtree(empty / "checkpoints")
    for words, said in (
        ("export nowhere", "does not exist; train one"),
        (f"export {tmp_path}", "config.toml is missing"),
        (f"export {empty}", "there is none; start a new run"),
        (f"export {unfinished}", "is unfinished, at iteration 2 of 3"),
        (f"export {run} --seed-index 2", "seeds 0 to 1"),
        (f"export {unfinished} --unfinished --seed-index 1", "has seed 0 only"),
        (f"export {run} --format torch", "--format"),
        (f"export {run} --output {tmp_path}/policy.py", "ends in .onnx"),
        (f"export {run} --output {tmp_path}/folder.onnx", "is a directory"),
    ):
        assert cli.main(words.split()) == 2, words
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (unfinished / "export").exists()
    assert not list(tmp_path.glob("*.py"))
    assert load_source(unfinished, unfinished=True).metadata["iterations"] == 2


def test_a_missing_package_is_a_users_error(prepared, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'hinf-rl\[export\]'"):
        files.write_export(prepared, "onnx", output=tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["onnx", "numpy"])
def test_a_policy_that_differs_is_not_written(kind, prepared, tmp_path):
    forgetful = prepared._replace(weights=prepared.weights._replace(mean=None, std=None))
    with pytest.raises(RuntimeError, match="differs from the trained one"):
        files.write_export(forgetful, kind, output=tmp_path / f"policy{files.SUFFIXES[kind]}")
    assert not list(tmp_path.iterdir())


def test_survival_is_carried_as_long_as_it_speaks_of_the_policy(run, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")
    assert evaluated_survival(run, 0) is None
    cells = {"nominal": {"num_survived": 5, "num_episodes": 6}, "randomised": {}}
    results = {
        "provenance": {"training": read_json(run / "manifest.json")},
        "per_seed": [{"cells": {}}, {"cells": cells}],
    }
    (run / "report").mkdir()
    write_json(run / "report" / "results.json", results)
    assert evaluated_survival(run, 1) == {"nominal": [5, 6]}
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", {**manifest, "resumed": [{"date_utc": "later"}]})
    assert evaluated_survival(run, 1) is None
