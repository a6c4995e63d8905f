"""One trace, exact resumption, honest metrics."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.training.loop import seed_keys, train
from hinf_rl.training.progress import PlainProgress
from hinf_rl.training.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run", {"task": "dummy"})


def lines(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def timeless(records):
    return [
        {key: value for key, value in record.items() if key not in ("wall_s", "steps_per_s")}
        for record in records
    ]


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.smoke
def test_n_plus_m_equals_n_save_load_m_bit_for_bit(tmp_path, dummy, bits, seeds):
    keys, runs = seed_keys(5, seeds), []
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
        runs.append(RunDirectory(tmp_path / name, {"task": "dummy"}))
    whole = train(dummy(), runs[0], iterations=11, keys=keys, checkpoint_every=4)
    train(dummy(), runs[1], iterations=5, keys=keys, checkpoint_every=4)
    halves = train(dummy(), runs[1], iterations=11, keys=keys, checkpoint_every=4, resume=True)
    assert bits(halves.carry) == bits(whole.carry)
    assert timeless(lines(runs[1])) == timeless(lines(runs[0]))
    assert [record["iteration"] for record in lines(runs[1])] == list(range(1, 12))


def test_the_stride_does_not_change_the_numbers(dummy, bits):
    keys = seed_keys(0, 2)
    results = [
        bits(train(dummy(), iterations=10, keys=keys, log_every=every).carry)
        for every in (1, 3, 10)
    ]
    assert results[0] == results[1] == results[2]


@pytest.mark.smoke
def test_a_step_is_traced_once_whatever_the_strides(dummy):
    traces = []
    algorithm = dummy(on_trace=lambda: traces.append(1))
    train(algorithm, iterations=10, keys=seed_keys(0, 2), log_every=4, checkpoint_every=3)
    assert len(traces) == 1


def test_metrics_of_a_stride_are_reduced_by_their_name(dummy, run):
    train(dummy(), run, iterations=10, keys=seed_keys(0, 2), log_every=4)
    records = lines(run)
    assert [record["iteration"] for record in records] == [4, 8, 10]
    # Means of 1..4, 5..8 and 9..10 by hand: 2.5, 6.5, 9.5; largest: 4, 8, 10.
    assert [record["train/iteration"] for record in records] == [[2.5] * 2, [6.5] * 2, [9.5] * 2]
    assert [record["train/iteration_max"][0] for record in records] == [4.0, 8.0, 10.0]
    # Iterations 4 and 8 report one non-finite update in each of two seeds.
    assert [record["train/nonfinite_updates"][0] for record in records] == [1.0, 1.0, 0.0]
    assert [record["nonfinite_total"] for record in records] == [2.0, 4.0, 4.0]
    assert [record["env_steps"] for record in records] == [40, 80, 100]


def test_seed_i_does_not_depend_on_how_many_seeds_there_are():
    few, many = seed_keys(7, 2), seed_keys(7, 5)
    np.testing.assert_array_equal(jax.random.key_data(few), jax.random.key_data(many)[:2])
    np.testing.assert_array_equal(
        jax.random.key_data(seed_keys(7, 1)), jax.random.key_data(many)[0]
    )


def test_hyperparameters_reach_their_member(dummy):
    gains = jnp.array([0.0, 0.5], jnp.float32)
    result = train(dummy(), iterations=1, keys=seed_keys(0, 2), hyperparameters={"gain": gains})
    np.testing.assert_array_equal(result.carry["gain"], gains)


def test_lines_behind_the_checkpoint_are_cut(dummy, run):
    train(dummy(), run, iterations=6, keys=seed_keys(0, 1), checkpoint_every=3)
    # As after a crash: one line beyond the checkpoint, one torn.
    with run.metrics.open("a") as file:
        file.write('{"iteration": 7, "wall_s": 1.0}\n{"itera')
    train(dummy(), run, iterations=8, keys=seed_keys(0, 1), checkpoint_every=3, resume=True)
    assert [record["iteration"] for record in lines(run)] == list(range(1, 9))
    walls = [record["wall_s"] for record in lines(run)]
    assert walls == sorted(walls)


def test_resume_without_a_checkpoint_starts(dummy, run):
    result = train(dummy(), run, iterations=2, keys=seed_keys(0, 1), resume=True)
    assert result.summary["iterations"] == 2


def test_resume_of_a_finished_run_changes_nothing(dummy, run, bits):
    first = train(dummy(), run, iterations=3, keys=seed_keys(0, 1))
    again = train(dummy(), run, iterations=3, keys=seed_keys(0, 1), resume=True)
    assert bits(first.carry) == bits(again.carry)
    assert len(lines(run)) == 3


def test_another_shape_is_refused_before_anything_is_written(dummy, run):
    train(dummy(width=3), run, iterations=2, keys=seed_keys(0, 1))
    before = run.metrics.read_bytes()
    with pytest.raises(UserError, match="another task"):
        train(dummy(width=4), run, iterations=4, keys=seed_keys(0, 1), resume=True)
    assert run.metrics.read_bytes() == before


def test_a_step_that_changes_a_type_is_named(dummy):
    algorithm = dummy()

    def step(carry):
        carry, metrics = algorithm.step(carry)
        return {**carry, "x": carry["x"].astype(jnp.bfloat16)}, metrics

    with pytest.raises(TypeError, match=r"'x'.*float32\[3\].*bfloat16\[3\]"):
        train(algorithm._replace(step=step), iterations=1, keys=seed_keys(0, 1))


def test_nan_metrics_are_null_in_the_log(dummy, run):
    algorithm = dummy()

    def step(carry):
        carry, metrics = algorithm.step(carry)
        return carry, {**metrics, "train/return": jnp.float32(jnp.nan)}

    train(algorithm._replace(step=step), run, iterations=1, keys=seed_keys(0, 1))
    assert lines(run)[0]["train/return"] == [None]


def test_progress_names_speed_time_left_return_and_skips(dummy, capsys):
    train(
        dummy(), iterations=8, keys=seed_keys(0, 1), progress=PlainProgress(sys.stdout, every_s=0)
    )
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "compiling the training step"
    assert "8/8" in shown[-1]
    for part in ("80 steps", "steps/s", "return", "2 non-finite left out", "left"):
        assert part in shown[-1]


@pytest.mark.parametrize("name", ["iterations", "log_every", "checkpoint_every"])
def test_numbers_below_one_are_refused(dummy, name):
    with pytest.raises(UserError, match=f"{name} must be at least 1"):
        train(dummy(), **{"iterations": 1, "keys": seed_keys(0, 1), name: 0})


def test_summary_counts_all_seeds(dummy):
    summary = train(dummy(), iterations=4, keys=seed_keys(0, 3)).summary
    assert summary["env_steps"] == 40
    assert summary["seeds"] == 3
    assert summary["finished"]
    assert summary["compile_s"] > 0
    np.testing.assert_allclose(summary["steps_per_s"] * summary["wall_s"], 120, rtol=1e-6)


SCRIPT = textwrap.dedent("""
    import importlib.util, sys, time
    from hinf_rl.training.loop import seed_keys, train
    from hinf_rl.training.run_directory import RunDirectory

    spec = importlib.util.spec_from_file_location("dummy", sys.argv[1])
    dummy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dummy)

    def slow(record):
        print("running", flush=True)
        time.sleep(0.05)

    result = train(dummy.make_dummy(), RunDirectory(sys.argv[2], {"task": "dummy"}),
                   iterations=100000, keys=seed_keys(5, 1), checkpoint_every=100000,
                   callbacks=[slow])
    print("stopped", result.signal, result.summary["iterations"], flush=True)
""")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_exactly(tmp_path, dummy, bits, number, request):
    script, folder = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT)
    folder.mkdir()
    helper = str(request.path.parent / "conftest.py")
    process = subprocess.Popen(
        [sys.executable, str(script), helper, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    with process:
        assert process.stdout.readline() == "running\n"
        time.sleep(0.2)
        process.send_signal(number)
        output = process.stdout.read()
    assert process.returncode == 0
    word, got, done = output.splitlines()[-1].split()
    assert (word, int(got)) == ("stopped", number)
    run, total = RunDirectory(folder, {"task": "dummy"}), int(done) + 5
    resumed = train(dummy(), run, iterations=total, keys=seed_keys(5, 1), resume=True)
    straight = train(dummy(), iterations=total, keys=seed_keys(5, 1))
    assert bits(resumed.carry) == bits(straight.carry)
    assert [record["iteration"] for record in lines(run)] == list(range(1, total + 1))


def test_signal_handlers_are_put_back(dummy):
    before = signal.getsignal(signal.SIGTERM)
    train(dummy(), iterations=1, keys=seed_keys(0, 1))
    assert signal.getsignal(signal.SIGTERM) is before
