"""Several devices compute what one does, in one program, and say what does not divide."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import memory
from hinf_rl import cli
from hinf_rl.agents.hinf import make
from hinf_rl.errors import UserError
from hinf_rl.tasks import configure, get_task
from hinf_rl.training import loop, sharding
from hinf_rl.training.checkpoint import restore_checkpoint
from hinf_rl.training.run_directory import RunDirectory, load_run

TINY = {
    "agent.iterations": "3",
    "agent.num_envs": "8",
    "agent.unroll_length": "8",
    "agent.num_epochs": "2",
    "agent.num_minibatches": "2",
    "agent.actor.hidden": "(8,)",
    "agent.critic.hidden": "(8,)",
    "agent.disturbance.player.hidden": "(8,)",
    # Both players learn from the first iteration.
    "agent.disturbance.warmup_fraction": "0",
    "agent.disturbance.ramp_fraction": "0.3",
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    num_envs: int = 8
    unroll_length: int = 1
    num_minibatches: int = 2

    @property
    def batch_size(self):
        return self.num_envs * self.unroll_length


def cartpole():
    config = configure("cartpole", "hinf", TINY)
    return make(config.agent, get_task("cartpole").make_env(config.env))


def learned(carry):
    """What training has learned, as float64."""
    kept = (carry.actor, carry.disturber, carry.critic, carry.policy_normalizer, carry.multiplier)
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(kept)]


def assert_close(found, wanted):
    """The order of a sum is all that may differ: float32 has 1.2e-7, a step of Adam is 1e-3."""
    assert len(found) == len(wanted) > 20
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


@pytest.fixture(scope="module")
def one_device():
    return loop.train(cartpole(), iterations=3, keys=loop.seed_keys(0, 1))


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    run = RunDirectory(tmp_path_factory.mktemp("two"), {"task": "cartpole"})
    algorithm = cartpole()
    mesh = sharding.make_mesh(algorithm.config, devices=2)
    with memory.count_compilations() as names:
        result = loop.train(
            algorithm, run, iterations=3, keys=loop.seed_keys(0, 1), mesh=mesh, log_every=2
        )
    return result, run, names


def test_two_devices_learn_what_one_does(one_device, two_devices):
    start = learned(jax.jit(cartpole().init)(jax.random.key(0)))
    wanted = learned(one_device.carry)
    # Every player moved far more than the tolerance, so agreement means something.
    assert max(np.abs(a - b).max() for a, b in zip(start, wanted, strict=True)) > 1e-2
    assert_close(learned(two_devices[0].carry), wanted)


def test_a_mesh_costs_one_compilation(two_devices):
    assert sum("call" in name for name in two_devices[2]) == 1


def test_environments_are_split_and_the_rest_is_copied(two_devices):
    carry = two_devices[0].carry
    for name, part in carry._asdict().items():
        for leaf in jax.tree.leaves(part):
            is_split = name in ("env", "held")
            assert leaf.sharding.is_fully_replicated != is_split, name
            assert leaf.addressable_shards[0].data.shape[:1] == (
                (4,) if is_split else leaf.shape[:1]
            )


def test_what_two_devices_saved_one_restores_and_back(two_devices, bits, tmp_path):
    result, run, _ = two_devices
    algorithm = cartpole()
    init = loop.make_init(algorithm, loop.seed_keys(0, 1))
    shapes = jax.eval_shape(init)
    step, on_one = restore_checkpoint(run.checkpoints, shapes, identity=run.identity)
    assert step == 3
    assert bits(on_one) == bits(result.carry)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(on_one)} == {1}
    again = RunDirectory(tmp_path, {"task": "cartpole"})
    loop.save_checkpoint(again.checkpoints, 3, on_one, identity=again.identity)
    mesh = sharding.make_mesh(algorithm.config, devices=2)
    places = sharding.carry_shardings(shapes, mesh, algorithm.environment_fields, has_seeds=False)
    _, on_two = restore_checkpoint(again.checkpoints, sharding.with_shardings(shapes, places))
    assert bits(on_two) == bits(result.carry)
    for leaf, wanted in zip(jax.tree.leaves(on_two), jax.tree.leaves(places), strict=True):
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)


FOUR = textwrap.dedent("""
    import json, sys
    sys.path.insert(0, sys.argv[1])
    import numpy as np
    import test_sharding as tests
    from hinf_rl.training import loop, sharding

    algorithm = tests.cartpole()
    mesh = sharding.make_mesh(algorithm.config, devices=4)
    result = loop.train(algorithm, iterations=3, keys=loop.seed_keys(0, 1), mesh=mesh)
    print(json.dumps([leaf.tolist() for leaf in tests.learned(result.carry)]))
""")


@pytest.mark.slow
def test_four_devices_learn_what_one_does(one_device, request, tmp_path):
    flags = " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag)
    done = subprocess.run(
        [sys.executable, "-c", FOUR, str(request.path.parent)],
        capture_output=True,
        text=True,
        cwd=request.config.rootpath,
        env={**os.environ, "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=4"},
    )
    assert done.returncode == 0, done.stderr
    found = [np.asarray(leaf) for leaf in json.loads(done.stdout.splitlines()[-1])]
    assert_close(found, learned(one_device.carry))


@pytest.mark.slow
def test_two_processes_learn_what_one_does(one_device, tmp_path):
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    flags = " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag)
    words = ["train", "cartpole", "--steps", "192", "--output", str(tmp_path / "run")]
    words += ["--coordinator", f"localhost:{port}", "--num-processes", "2"]
    words += ["--set", *(f"{name}={value}" for name, value in TINY.items())]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "hinf_rl.cli", *words, "--process-id", str(index)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XLA_FLAGS": flags},
        )
        for index in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0, 0], said
    assert "2 devices (cpu) of 2 processes: seeds in 1, environments in 2 parts" in said[0]
    # The other process has nothing to say, apart from what the transport prints.
    assert "trained 192 steps" in said[0] and "trained" not in said[1]
    _, _, carry = load_run(tmp_path / "run")
    assert_close(learned(carry), learned(one_device.carry))


def train_rows(algorithm, seeds, **options):
    return loop.train(algorithm, iterations=5, keys=loop.seed_keys(1, seeds), **options).carry


@pytest.mark.parametrize("order", ["vmapped", "sequential"])
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_seeds_on_two_devices_learn_what_they_do_on_one(rows, seeds, order):
    # Two seeds lie on a device each; one and three share their environments.
    algorithm = rows()
    mesh = sharding.make_mesh(Sizes(), devices=2, seeds=1 if order == "sequential" else seeds)
    assert mesh.shape == (
        {"seeds": 2, "envs": 1} if (seeds, order) == (2, "vmapped") else {"seeds": 1, "envs": 2}
    )
    wanted = train_rows(algorithm, seeds)
    found = train_rows(algorithm, seeds, mesh=mesh, seed_order=order)
    np.testing.assert_allclose(found["weights"], wanted["weights"], rtol=1e-5, atol=1e-6)
    assert jnp.array_equal(found["key"], wanted["key"])


def test_a_run_on_two_devices_goes_on_exactly(rows, bits, tmp_path):
    algorithm, keys = rows(), loop.seed_keys(1, 1)
    mesh = sharding.make_mesh(Sizes(), devices=2)
    run = RunDirectory(tmp_path, {"task": "rows"})
    loop.train(algorithm, run, iterations=2, keys=keys, mesh=mesh)
    resumed = loop.train(algorithm, run, iterations=5, keys=keys, mesh=mesh, resume=True)
    assert bits(resumed.carry) == bits(train_rows(algorithm, 1, mesh=mesh))


def test_one_device_needs_no_mesh():
    assert sharding.make_mesh(Sizes()) is None


@pytest.mark.parametrize(
    ("sizes", "devices", "says"),
    [
        (Sizes(), 0, "--devices must be at least 1, got 0"),
        (Sizes(), 3, "finds 2 cpu devices.*host_platform_device_count=3"),
        (Sizes(num_envs=7, unroll_length=2), 2, "num_envs = 7 does not divide over 2 devices"),
        (Sizes(num_envs=6), 2, r"6 \* 1 / 2 = 3 does not divide.*agent.num_minibatches"),
    ],
)
def test_what_does_not_divide_is_named(sizes, devices, says):
    with pytest.raises(UserError, match=says):
        sharding.make_mesh(sizes, devices=devices)


def test_seeds_that_spread_spare_the_environments():
    # Each of two devices has a seed with all its environments, whatever their number.
    assert sharding.make_mesh(Sizes(num_envs=7), devices=2, seeds=4).shape["envs"] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--devices 3", "--devices 3: JAX finds 2 cpu devices"),
        ("--devices 0", "--devices must be at least 1, got 0"),
        ("--devices 2 --set agent.num_envs=6 agent.num_minibatches=2 agent.unroll_length=1", "= 3"),
        ("--coordinator localhost:1234", "go together"),
        ("--process-id 0 --num-processes 2", "go together"),
        ("--coordinator localhost --num-processes 2 --process-id 0", "HOST:PORT, got 'localhost'"),
        ("--coordinator a:99999 --num-processes 2 --process-id 0", "HOST:PORT, got 'a:99999'"),
        ("--coordinator a:1 --num-processes 2 --process-id 2", "must lie in [0, --num-processes"),
        ("--coordinator a:1 --num-processes 0 --process-id 0", "at least 1, got 0"),
        ("--seed-order random", "--seed-order"),
    ],
)
def test_a_wrong_option_ends_with_2_and_writes_nothing(words, says, tmp_path, capsys):
    precision = jax.config.jax_default_matmul_precision
    try:
        code = cli.main(["train", "cartpole", "--output", str(tmp_path / "run"), *words.split()])
    finally:
        jax.config.update("jax_default_matmul_precision", precision)
    said = capsys.readouterr().err
    assert code == 2 and says in said and len(said.splitlines()) == 1, said
    assert not (tmp_path / "run").exists()
