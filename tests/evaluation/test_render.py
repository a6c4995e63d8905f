import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from matplotlib import rc_context
from PIL import Image

from hinf_rl.envs.classic import CartPole, Pendulum
from hinf_rl.errors import UserError
from hinf_rl.evaluation import beside, disturbances, render, scene, video
from hinf_rl.evaluation.episode import Recording, record_episode

_ROBOT = """
<mujoco>
  <worldbody>
    <light pos="0 0 3"/>
    <geom type="plane" size="5 5 .1"/>
    <body name="trunk" pos="0 0 .4">
      <freejoint/>
      <geom type="box" size=".3 .1 .05" rgba="0 0 1 1"/>
      <body name="leg" pos=".3 0 0">
        <joint type="hinge" axis="0 1 0"/>
        <geom type="sphere" size=".03" pos="0 0 -.4"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


class Pose(NamedTuple):
    """Physics of a robot that is put where it should be."""

    qpos: jax.Array


class Wrapper:
    """An environment with a model, inside another."""

    def __init__(self, env):
        self.env = env


@pytest.fixture
def robot(hazard_env):
    """A robot that walks along x, turned by 90 degrees, pushed in its heading frame."""
    base = hazard_env()
    half = np.float32(np.sqrt(0.5))

    class Robot:
        model = mujoco.MjModel.from_xml_string(_ROBOT)
        spec = dataclasses.replace(
            base.spec,
            disturbance=dataclasses.replace(base.spec.disturbance, meaning="heading frame"),
        )

        def reset(self, key):
            qpos = jnp.array([0, 0, 0.4, half, 0, 0, half, 0], jnp.float32)
            return base.reset(key).replace(physics=Pose(qpos))

        def step(self, state, action, disturbance=None):
            return state.replace(physics=Pose(state.physics.qpos.at[0].add(0.1)))

    return Robot()


def _still(observation):
    return jnp.zeros((observation["policy"].shape[0], 1), jnp.float32)


_POLICY = jax.tree_util.Partial(_still)


def _record(env, magnitude=None, num_steps=10):
    limit = env.spec.disturbance.limit if magnitude is None else magnitude
    push = disturbances.continuous(env.spec, limit)
    return record_episode(env, _POLICY, push, jax.random.key(0), num_steps=num_steps)


def _check_not_blank(frames):
    dark = (frames.mean(axis=-1) < 100).mean(axis=(1, 2))
    assert frames.dtype == np.uint8 and (dark > 0.002).all() and (dark < 0.5).all()


def test_a_recording_ends_with_the_fall(hazard_env):
    env = hazard_env(fall_at=7)
    recording = _record(env, num_steps=30)
    assert recording.has_fallen
    np.testing.assert_array_equal(recording.physics["count"], np.arange(1, 8))
    np.testing.assert_allclose(np.linalg.norm(recording.force, axis=1), 10.0, rtol=1e-5)
    assert recording.force.shape == (7, 3)


def test_a_recording_without_a_fall_is_whole(hazard_env):
    recording = _record(hazard_env(), num_steps=12)
    assert not recording.has_fallen and len(recording.force) == 12


def test_a_cart_pole_falls_and_is_drawn(tmp_path):
    env = CartPole()
    push = disturbances.continuous(env.spec, 0.6)
    done = render.render_rollout(env, _POLICY, push, jax.random.key(0), tmp_path, num_steps=100)
    assert done.renderer == "lines" and done.note == ""
    strip = np.asarray(Image.open(done.strip).convert("RGB"))
    assert strip.shape == (364, 5 * 484, 3)
    _check_not_blank(strip[None])
    with Image.open(done.gif) as film:
        assert film.n_frames > 5
    assert done.gif.stat().st_size < video.GIF_BYTES


def test_the_pole_is_where_the_angle_says():
    physics = {"position": np.array([2.0]), "angle": np.array([np.pi / 6])}
    view = scene.views_of(CartPole(), physics, np.array([[1.0]]), None)(0)[0]
    # Length 1 (half-length 0.5), 30 degrees: tip at 2 + sin 30, cos 30; its middle is pushed.
    np.testing.assert_allclose(view.segments[-1], [[2.0, 0.0], [2.5, np.sqrt(0.75)]])
    np.testing.assert_allclose(view.arrow[0], [2.25, np.sqrt(0.75) / 2])
    np.testing.assert_allclose(view.arrow[1] - view.arrow[0], [scene.ARROW_M, 0.0])


def test_the_torque_on_a_pendulum_pushes_its_tip_along_the_circle():
    physics = {"angle": np.array([np.pi / 2])}
    view = scene.views_of(Pendulum(), physics, np.array([[0.5]]), None)(0)[0]
    # Hanging to the right, a positive torque pushes down.
    np.testing.assert_allclose(view.segments[0], [[0, 0], [1, 0]], atol=1e-9)
    np.testing.assert_allclose(view.arrow[1] - view.arrow[0], [0, -0.5 * scene.ARROW_M], atol=1e-9)


def test_a_robot_is_seen_from_its_own_side(robot):
    # It faces +y and is pushed along +y: seen from its side, forward is to the right.
    qpos = np.array([[5.0, 1.0, 0.4, np.sqrt(0.5), 0, 0, np.sqrt(0.5), 0.0]])
    side, top = scene.views_of(robot, Pose(qpos), np.array([[0, 1.0, 0]]), None)(0)
    # Bones: trunk to leg, leg to the sphere at its end, then the box of the trunk.
    np.testing.assert_allclose(side.segments[0], [[0, 0.4], [0.3, 0.4]], atol=1e-9)
    np.testing.assert_allclose(top.segments[0], [[0, 0], [0.3, 0]], atol=1e-9)
    assert any(np.allclose(line, [[0.3, 0.4], [0.3, 0.0]]) for line in side.segments)
    assert len(side.segments) == 2 + 12
    np.testing.assert_allclose(side.arrow, [[0, 0.4], [scene.ARROW_M, 0.4]], atol=1e-9)


def test_a_force_in_the_heading_frame_is_turned_into_the_world(robot):
    recording = Recording(
        physics=Pose(np.array([[0, 0, 0.4, np.sqrt(0.5), 0, 0, np.sqrt(0.5), 0.0]] * 2)),
        parameters={},
        force=np.array([[5.0, 0, 0], [0, 0, 10.0]]),
        has_fallen=False,
        dt_s=0.1,
    )
    push = render._push_over_limit(robot, recording)
    np.testing.assert_allclose(push, [[0, 0.5, 0], [0, 0, 1.0]], atol=1e-9)


def test_without_gl_a_robot_is_drawn_as_lines_and_the_note_says_what_to_install(robot):
    recording = _record(robot)
    with rc_context({"figure.constrained_layout.use": True}):  # as a notebook may have it
        _check_line_drawing(robot, recording)


def _check_line_drawing(robot, recording):
    frames, renderer, note = render.draw(robot, recording, np.array([0, 9]), libraries=("none",))
    assert renderer == "lines" and "libegl1" in note and "libosmesa6" in note
    assert frames.shape == (2, 360, 960, 3)
    _check_not_blank(frames)


@pytest.mark.parametrize("library", render.GL_LIBRARIES)
def test_with_gl_a_robot_and_its_push_are_drawn(robot, library):
    qpos = np.array([[0, 0, 0.4, 1, 0, 0, 0, 0.0]] * 2)
    frames = render.gl_frames(robot.model, qpos, np.array([[0, 0, 0], [1.0, 0, 0]]), library)
    if frames is None:
        pytest.skip(f"{library} does not work on this machine")
    assert frames.shape == (2, 360, 480, 3)
    red = (frames[..., 0].astype(int) - frames[..., 1] > 60).sum(axis=(1, 2))
    assert red[0] == 0 and red[1] > 50


def test_the_model_is_found_through_wrappers(robot, hazard_env):
    assert scene.find_model(Wrapper(Wrapper(robot))) is robot.model
    assert scene.find_model(Wrapper(hazard_env())) is None


def test_an_environment_without_a_picture_is_named(hazard_env):
    env = hazard_env(name="thing")
    with pytest.raises(UserError, match="'thing' has no picture"):
        render.draw(env, _record(env), np.array([0]))


def test_key_frames_show_the_hardest_pushes():
    size = np.zeros(20)
    size[[4, 9, 15]] = 1.0, 2.0, 3.0
    # Three parts of 1..18: each has one push.
    assert render.key_frames(size[:, None]) == [0, 4, 9, 15, 19]
    assert render.key_frames(np.zeros((2, 1))) == [0, 1]
    assert render.key_frames(np.zeros((20, 1))) == [0, 4, 10, 16, 19]


def test_two_policies_are_filmed_under_the_same_push(tmp_path):
    env = CartPole()
    sides = [beside.Side(label, env, _POLICY) for label in ("ours", "theirs")]
    push = disturbances.sudden(env.spec, 0.6)
    lines = []
    films = beside.render_beside(
        sides, push, jax.random.key(0), tmp_path, num_steps=12, progress=lines.append
    )
    assert films.gif.name == "beside.gif" and len(lines) == 2
    strip = np.asarray(Image.open(films.strip).convert("RGB"))
    # Three key frames, each of two films beside each other. The policies are the same and so are
    # start and push: the halves differ in the title alone.
    width = strip.shape[1] // 3
    frame = strip[2:-2, 2 : width - 2]
    half = frame.shape[1] // 2
    np.testing.assert_array_equal(frame[40:, :half], frame[40:, half:])
    assert (frame[:28, :half] != frame[:28, half:]).any()


def test_films_of_different_tasks_are_not_put_beside_each_other(tmp_path, hazard_env):
    sides = [beside.Side("a", CartPole(), _POLICY), beside.Side("b", hazard_env(), _POLICY)]
    push = disturbances.Quiet(size=1)
    with pytest.raises(UserError, match="runs of one task"):
        beside.render_beside(sides, push, jax.random.key(0), tmp_path)
