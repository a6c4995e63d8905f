"""Two processes train as one: the first writes, both learn the same and stop together."""

import os
import socket
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.training import loop, processes
from hinf_rl.training.checkpoint import restore_checkpoint
from hinf_rl.training.run_directory import RunDirectory

SCRIPT = textwrap.dedent("""
    import hashlib, importlib.util, os, signal, sys, types
    from pathlib import Path

    import jax

    from hinf_rl.errors import UserError
    from hinf_rl.training import loop, processes, sharding
    from hinf_rl.training.run_directory import RunDirectory

    helper, folder, port, index = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("helper", helper)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    processes.start(processes.Cluster(f"localhost:{port}", 2, int(index)))
    processes.meet()

    def say(name, value):
        print(f"{name}={value}", flush=True)

    def digest(carry):
        hosts = [jax.random.key_data(leaf) if "key" in str(leaf.dtype) else leaf
                 for leaf in jax.tree.leaves(carry)]
        data = b"".join(processes.to_host(leaf).tobytes() for leaf in hosts)
        return hashlib.sha256(data).hexdigest()

    sizes = types.SimpleNamespace(num_envs=8, unroll_length=1, batch_size=8, num_minibatches=2)
    mesh = sharding.make_mesh(sizes, devices=2)
    say("devices", mesh.size)
    algorithm, keys = module.make_rows(), loop.seed_keys(1, 1)

    # Only the first process has a disk.
    def run(name):
        path = Path(folder) / f"{index}-{name}"
        if processes.is_first():
            path.mkdir()
        return RunDirectory(path, {"task": "rows"})

    def train(run, iterations, **options):
        return loop.train(algorithm, run, iterations=iterations, keys=keys, mesh=mesh, **options)

    whole, halves = train(run("whole"), 5), run("halves")
    train(halves, 2)
    again = train(halves, 5, resume=True)
    say("whole", digest(whole.carry))
    say("halves", digest(again.carry))
    try:
        loop.train(module.make_rows(num_envs=4), halves, iterations=9, keys=keys, mesh=mesh,
                   resume=True)
    except UserError as error:
        say("error", "another task" in str(error))

    def stop(record):
        if index == "1" and record["iteration"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = train(None, 10**6, callbacks=[stop])
    say("signal", stopped.signal)
    say("stopped", stopped.summary["iterations"])
""")


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return str(listener.getsockname()[1])


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, request):
    folder, port = tmp_path_factory.mktemp("processes"), free_port()
    helper = str(request.path.parent / "conftest.py")
    # Two devices each (of conftest's flags), so four in all.
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, helper, str(folder), port, str(index)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for index in range(2)
    ]
    try:
        said = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    for process, (_, err) in zip(started, said, strict=True):
        assert process.returncode == 0, err
    found = [
        dict(line.split("=", 1) for line in out.splitlines() if "=" in line) for out, _ in said
    ]
    return folder, found


@pytest.mark.slow
def test_both_see_all_devices_and_hold_the_same(outcomes):
    first, second = outcomes[1]
    assert first == second
    assert first["devices"] == "4"


def test_a_run_of_two_processes_goes_on_exactly(outcomes):
    first, _ = outcomes[1]
    assert first["halves"] == first["whole"]


def test_they_learn_what_one_process_does(outcomes, rows):
    folder, _ = outcomes
    algorithm, keys = rows(), loop.seed_keys(1, 1)
    run = RunDirectory(folder / "0-whole", {"task": "rows"})
    shapes = jax.eval_shape(loop.make_init(algorithm, keys))
    step, saved = restore_checkpoint(run.checkpoints, shapes, identity=run.identity)
    alone = loop.train(algorithm, iterations=5, keys=keys).carry
    assert step == 5
    np.testing.assert_allclose(saved["weights"], alone["weights"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(saved["rows"]["x"], alone["rows"]["x"])


def test_the_first_alone_writes(outcomes):
    folder, _ = outcomes
    assert sorted(entry.name for entry in folder.iterdir()) == ["0-halves", "0-whole"]
    text = (folder / "0-halves" / "metrics.jsonl").read_text()
    assert len(text.splitlines()) == 5


def test_what_the_first_cannot_do_both_refuse(outcomes):
    assert [found["error"] for found in outcomes[1]] == ["True", "True"]


def test_a_signal_to_one_stops_both_at_the_same_iteration(outcomes):
    assert [(found["signal"], found["stopped"]) for found in outcomes[1]] == [("15", "3")] * 2


def test_alone_nothing_is_sent():
    assert processes.is_first()
    assert processes.any_signal(None) is None
    assert processes.any_signal(2) == 2
    assert processes.on_first(lambda: 3) == 3
    with pytest.raises(UserError, match="full"):
        processes.on_first(lambda: (_ for _ in ()).throw(UserError("full")))
    processes.start(processes.Cluster())
    assert jax.process_count() == 1
