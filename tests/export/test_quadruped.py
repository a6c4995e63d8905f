"""A quadruped's file: what it says, and that plain MuJoCo alone tells the same story."""

import math
import re

import jax
import numpy as np
import pytest

from hinf_rl import cli
from hinf_rl import config as configs
from hinf_rl.envs.legged import velocity
from hinf_rl.export import load_runner
from hinf_rl.export.files import prepare_export, write_export
from hinf_rl.export.simulation import Scenario, Simulation, draw_scenario
from hinf_rl.export.source import CELLS
from hinf_rl.export.verify import newcombe_interval, verify
from hinf_rl.tasks import configure


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
    """An Aliengo that moves its legs and sees three observations, in nominal physics."""
    settings = {
        "env.history": 3,
        "env.randomise": "false",
        "env.heading_command": "true",
        "env.command_interval_s": 0.3,
        "env.episode_length_s": 1.2,
        "agent.actor.hidden": (16, 16),
    }
    return make_run("aliengo", settings)


@pytest.fixture(scope="module")
def prepared(run):
    return prepare_export(run)


@pytest.fixture(scope="module")
def exported(prepared):
    return write_export(prepared, "onnx"), write_export(prepared, "numpy")


def test_metadata_hold_what_a_robot_needs(exported):
    metadata = load_runner(exported[0].path).metadata
    assert metadata["joint_names"][:4] == ["FL_hip", "FL_thigh", "FL_calf", "FR_hip"]
    assert metadata["default_joint_position_rad"] == [0.0, 0.8, -1.5] * 4
    assert metadata["kp_nm_per_rad"] == [40.0] * 12
    assert metadata["kd_nms_per_rad"] == [2.0] * 12
    assert metadata["action_scale_rad"] == [0.5] * 12
    assert metadata["torque_limit_nm"] == [44.0, 44.0, 55.0] * 4
    assert metadata["joint_range_rad"][2] == [-2.775, -0.611]
    assert metadata["control_dt_s"] == metadata["physics_dt_s"] * metadata["substeps"] == 0.02
    assert metadata["observation"]["history"] == 3
    parts = {part["name"]: part["slice"] for part in metadata["observation"]["parts"]}
    assert parts == {
        "command": [0, 3],
        "angular_velocity": [3, 6],
        "gravity": [6, 9],
        "joint_position": [9, 21],
        "joint_velocity": [21, 33],
        "previous_action": [33, 45],
    }
    assert metadata["checked"]["max_abs_difference"]["output"] < 1e-4


def test_the_layout_bounds_what_the_task_bounds(prepared):
    layout = prepared.source.layout
    assert layout.observation_limit == layout.action_limit == velocity._ACTION_LIMIT


@pytest.fixture(scope="module")
def scenario(prepared):
    """What repeats the recorded episodes of the training environment."""
    recording = prepared.recording
    attitude = np.float64(recording.start.qpos)[:, 3:7]
    return Scenario(
        # Not any heading: MuJoCo's friction pyramids stand square to the world's axes.
        yaw=2.0 * np.arctan2(attitude[:, 3], attitude[:, 0]),
        command=np.float64(recording.inputs["command"].transpose(1, 0, 2)),
        heading=None,
        force=np.float64(recording.pushes.transpose(1, 0, 2)),
    )


@pytest.mark.parametrize("kind", [0, 1], ids=["onnx", "numpy"])
def test_plain_mujoco_repeats_the_environment_step_by_step(exported, prepared, scenario, kind):
    recording = prepared.recording
    trace = Simulation(load_runner(exported[kind].path)).run(scenario)
    standing = trace.steps[None] > np.arange(len(recording.actions))[:, None]
    assert standing[-1].sum() >= 8
    # The environment rounds its state to float32 once per control step; no contact makes more of
    # that within a second.
    assert np.abs(trace.observations - recording.observations)[standing].max() < 1e-5
    assert np.abs(trace.actions - recording.actions)[standing].max() < 1e-5
    # Legs moved and commands changed: agreement at rest would say little.
    assert np.ptp(trace.inputs["joint_position"], axis=0).max() > 0.2
    assert np.ptp(trace.inputs["command"], axis=0).max() > 0.2


def test_a_wrong_gain_shows(exported, prepared, scenario):
    runner = load_runner(exported[1].path)
    runner.metadata["kp_nm_per_rad"] = [30.0] * 12
    trace = Simulation(runner).run(scenario)
    assert np.abs(trace.observations - prepared.recording.observations)[:10].max() > 0.05


def test_a_heading_becomes_a_yaw_rate(exported, scenario):
    runner = load_runner(exported[1].path)
    yaw = np.array([0.0, 3.0, -1.0])
    turned = Scenario(
        yaw=yaw,
        command=np.zeros((3, 1, 3)),
        # Half the way round the short side: 0.4 / 2, (2 pi - 6) / 2; then at most 2 rad/s.
        heading=np.array([[0.4], [-3.0], [2.0]]),
        force=np.zeros((3, 1, 3)),
    )
    trace = Simulation(runner).run(turned)
    rate = trace.inputs["command"][0, :, 2]
    np.testing.assert_allclose(rate, [0.2, math.pi - 3.0, 1.5])


def test_a_torque_motor_holds_the_robot_as_the_servo_does(exported, scenario):
    runner = load_runner(exported[1].path)
    motor = Simulation(runner, "torque")
    assert motor.num_substeps * motor.model.opt.timestep == pytest.approx(0.02)
    assert motor.model.opt.timestep <= 0.001 + 1e-12
    few = Scenario(scenario.yaw[:2], scenario.command[:2, :10], None, scenario.force[:2, :10])
    trace, servo = motor.run(few), Simulation(runner).run(few)
    difference = trace.inputs["joint_position"] - servo.inputs["joint_position"]
    assert 0.0 < np.abs(difference).mean() < 0.05


def test_a_robot_that_is_thrown_over_has_fallen(exported, scenario):
    force = np.zeros_like(scenario.force[:2])
    force[0, :, 1] = 600.0
    thrown = Scenario(scenario.yaw[:2], scenario.command[:2], None, force)
    trace = Simulation(load_runner(exported[1].path)).run(thrown)
    num_steps = force.shape[1]
    assert not trace.survived[0]
    assert 5 < trace.steps[0] < num_steps
    assert trace.steps[0] < trace.steps[1]
    # What fell lies still: nothing steps it any more.
    rest = trace.inputs["joint_position"][trace.steps[0] + 1 :, 0]
    np.testing.assert_array_equal(rest, np.broadcast_to(rest[0], rest.shape))


def test_scenarios_are_the_protocols(exported):
    metadata = {**exported[0].metadata, "episode_length": 500}
    metadata["environment"] = {
        **metadata["environment"],
        "command_interval_s": 4.0,
        "heading_command": False,
    }
    sudden = draw_scenario(metadata, "sudden", 100.0, episodes=64, seed=1)
    size = np.linalg.norm(sudden.force, axis=-1)
    pushed = np.zeros(500, bool)
    for start in (50, 200, 350):  # 1 s, 4 s and 7 s, for 0.2 s of steps of 0.02 s
        pushed[start : start + 10] = True
    np.testing.assert_allclose(size, np.broadcast_to(100.0 * pushed, size.shape), atol=1e-9)
    assert not sudden.force[..., 2].any()
    # Uniform directions: the mean of 192 unit vectors has components below 4 / sqrt(2 * 192).
    assert np.abs(sudden.force[:, 50::150].mean((0, 1))).max() < 100.0 * 4 / math.sqrt(2 * 192)
    continuous = draw_scenario(metadata, "continuous", 30.0, episodes=8, seed=1)
    np.testing.assert_allclose(np.linalg.norm(continuous.force, axis=-1), 30.0)
    changes = np.any(np.diff(continuous.force, axis=1) != 0, axis=-1)
    np.testing.assert_array_equal(np.flatnonzero(changes.all(0)), np.arange(9, 499, 10))
    assert not draw_scenario(metadata, "nominal", 0.0, episodes=2, seed=1).force.any()
    command = sudden.command
    assert np.abs(command).max(axis=(0, 1)) == pytest.approx([1.0, 0.5, 1.0], rel=0.1)
    np.testing.assert_array_equal(
        np.flatnonzero((np.diff(command, axis=1) != 0).any((0, 2))), [199, 399]
    )
    planar = np.linalg.norm(command[..., :2], axis=-1)
    assert ((planar == 0) | (planar >= 0.2)).all()
    assert (planar == 0).any()
    assert sudden.heading is None


def test_newcombes_interval_by_hand():
    # Newcombe 1998, table II (method 10): 56/70 - 48/80 = 0.2, 95 %: 0.0524 to 0.3339.
    found = newcombe_interval((56, 70), (48, 80), confidence=0.95)
    np.testing.assert_allclose(found, (0.2, 0.0524, 0.3339), atol=5e-5)
    same = newcombe_interval((96, 96), (96, 96), confidence=0.99)
    assert same.low < 0.0 < same.high


@pytest.fixture
def protocol(monkeypatch):
    """Stands in for the protocol, which has tests of its own and compiles for long."""
    asked = []

    def measured(env, policy, *, config):
        asked.append((env, policy, config))
        counts = {"num_survived": config.num_envs - 1, "num_episodes": config.num_envs}
        return {"cells": dict.fromkeys(CELLS, counts)}

    monkeypatch.setattr("hinf_rl.evaluation.protocol.run_protocol", measured)
    return asked


@pytest.mark.slow
def test_a_policy_agrees_with_its_run(run, exported, protocol, capsys):
    path = exported[0].path
    words = ["verify", str(path), "--task", "aliengo", "--run", str(run), "--episodes", "6"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "agree"
    assert re.search(r"nominal +0 N +exported [0-6]/6 = .* trained 5/6 = ", said)
    assert re.search(r"sudden-2 +200 N +exported [0-6]/6 = .* trained 5/6 = ", said)
    assert "actions differ from the trained policy's by at most" in said
    ((env, policy, config),) = protocol
    assert env.env.config.randomise is False
    assert (config.num_envs, config.sudden_fractions) == (6, (1.0, 2.0))
    assert policy({"policy": np.zeros((1, 135), np.float32)}).shape == (1, 12)


def _changed(exported, old, new):
    """The NumPy file with something else in its metadata."""
    text = exported[1].path.read_text()
    assert text.count(old) == 1
    path = exported[1].path.with_name("changed.py")
    path.write_text(text.replace(old, new))
    return path


def test_another_survival_is_a_disagreement(exported, capsys):
    path = _changed(exported, '"survival": null', '"survival": {"nominal": [0, 500]}')
    assert cli.main(["verify", str(path), "--episodes", "24"]) == 1
    assert "disagree: nominal: survival differs by more than chance" in capsys.readouterr().out
    found = verify(exported[1].path, episodes=2)
    assert found.disagreements == []
    assert found.action_difference is None


def test_files_that_do_not_fit_are_refused(run, exported, tmp_path, capsys):
    path = exported[0].path
    (tmp_path / "policy.txt").write_text("policy")
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:5000])
    (tmp_path / "cartpole").mkdir()
    settings = configs.dumps_toml(configure("cartpole", "nominal"))
    (tmp_path / "cartpole" / "config.toml").write_text(settings)
    cases = (
        (f"verify {tmp_path}/nothing.onnx", "does not exist"),
        (f"verify {tmp_path}/policy.txt", "must be a .onnx or .py file"),
        (f"verify {tmp_path}/cut.onnx", "is damaged"),
        (f"verify {path} --task a1", "is a policy of task 'aliengo', not 'a1'"),
        (f"verify {path} --run nowhere", "does not exist"),
        (f"verify {path} --run {tmp_path}/cartpole", "is a run of task 'cartpole'"),
        (f"verify {path} --episodes 0", "episodes must be at least 1"),
        (f"verify {path} --motor steam", "--motor"),
    )
    for words, said in cases:
        assert cli.main(words.split()) == 2, words
        assert said in " ".join(capsys.readouterr().err.split()), words
    other = _changed(exported, '\n "robot": "aliengo"', '\n "machine": "aliengo"')
    assert cli.main(["verify", str(other)]) == 2
    assert "only quadrupeds can be verified" in capsys.readouterr().err
    younger = _changed(exported, '\n "iterations": 3', '\n "iterations": 2')
    assert cli.main(["verify", str(younger), "--run", str(run)]) == 2
    assert "iterations differs; export it again" in capsys.readouterr().err
