"""Environments of other packages by name, and the package without them."""

import re
import subprocess
import sys
import textwrap

import jax
import pytest

from hinf_rl.adapted_tasks import AGENT, PREFIXES
from hinf_rl.agents.hinf import make
from hinf_rl.commands.catalogue import list_all
from hinf_rl.control_tasks import ALGORITHMS, apply_algorithm
from hinf_rl.errors import UserError
from hinf_rl.tasks import configure, get_task
from hinf_rl.training.run_directory import make_algorithm, open_run, read_config


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", ["brax", "playground", "gymnax"])
def test_one_iteration_of_every_algorithm_traces(kind, algorithm):
    env = small_env(kind)
    built = make(apply_algorithm(AGENT, algorithm), env)
    carry = jax.eval_shape(built.init, jax.random.key(0))
    after, metrics = jax.eval_shape(built.step, carry)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), carry
    )
    assert "episode/return" in metrics


ENVS = {}


def small_env(kind):
    if kind not in ENVS:
        ENVS[kind] = _make(kind)
    return ENVS[kind]


def _make(kind):
    if kind == "brax":
        pytest.importorskip("brax")
        from hinf_rl.envs.brax_adapter import from_brax

        return from_brax("fast", dt_s=0.02, task_reward_max=1.0)
    if kind == "gymnax":
        pytest.importorskip("gymnax")
        from hinf_rl.envs.gymnax_adapter import from_gymnax

        return from_gymnax("CartPole-v1")
    pytest.importorskip("mujoco.mjx")
    from experiments.interop.point_mass import PointMass
    from hinf_rl.envs.playground_adapter import from_playground

    return from_playground(
        PointMass(), task_reward_max=0.0, disturbance="force", body="mass", check_force=False
    )


def test_a_run_of_a_foreign_task_is_read_back(tmp_path):
    pytest.importorskip("brax")
    settings = {"env.task_reward_max": "1", "env.dt_s": "0.02", "env.episode_length": "10"}
    config = configure("brax:fast", "hinf", settings)
    assert (config.env.name, config.env.task_reward_max, config.env.dt_s) == ("fast", 1.0, 0.02)
    open_run(tmp_path / "run", config)
    assert read_config(tmp_path / "run") == config
    assert make_algorithm(config).config == config.agent


def test_the_name_belongs_to_the_task():
    pytest.importorskip("brax")
    config = configure("brax:fast", "hinf", {"env.name": "ant"})
    with pytest.raises(UserError, match=r"env.name is 'fast' in task brax:fast, got 'ant'"):
        make_algorithm(config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("brx:ant", "unknown prefix of a task 'brx'; did you mean 'brax'"),
        ("brax:hoper", "unknown task 'brax:hoper'; did you mean 'brax:hopper'"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(name, message):
    pytest.importorskip("brax")
    with pytest.raises(UserError, match=re.escape(message)):
        get_task(name)


def test_the_list_tells_the_prefixes(capsys):
    assert list_all() == 0
    said = capsys.readouterr().out
    assert all(f"{prefix}:NAME" in said for prefix in PREFIXES)


BLOCKED = textwrap.dedent("""
    import sys

    class Block:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("brax", "gymnax", "mujoco_playground"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Block())
    import hinf_rl, hinf_rl.cli, hinf_rl.envs, hinf_rl.tasks
    assert hinf_rl.tasks.get_task("cartpole").name == "cartpole"
    assert hinf_rl.cli.main(["list"]) == 0
    for task in ("brax:ant", "gymnax:Pendulum-v1", "playground:Go1"):
        assert hinf_rl.cli.main(["train", task, "--output", "run"]) == 2
""")


def test_the_package_works_without_those_of_others(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[2] for line in done.stderr.splitlines()] == [
        ' brax is not installed: pip install "hinf-rl[brax]"',
        ' gymnax is not installed: pip install "hinf-rl[gymnax]"',
        ' mujoco_playground is not installed: pip install "playground"; an environment of your '
        "own needs no name: from_playground(env, ...)",
    ]
    assert not any(tmp_path.iterdir())
