"""An episode of one environment as pictures: MuJoCo's own where GL works, lines elsewhere."""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hinf_rl.envs.api import Env
from hinf_rl.evaluation import scene, video
from hinf_rl.evaluation.disturbances import Disturbance
from hinf_rl.evaluation.episode import Recording, record_episode
from hinf_rl.types import Array

GL_LIBRARIES = ("egl", "osmesa")
"""What is tried for MuJoCo's renderer, in turn; both draw without a display."""

_GL_HELP = (
    "no GL library works here, so the pictures are line drawings; for MuJoCo's own install "
    "libegl1 or libosmesa6 (Debian, Ubuntu: apt-get install libegl1)"
)
_CAMERA = (1.8, 120.0, -26.0)  # distance in m, azimuth and elevation in degrees
_GL_TIMEOUT_S = 300.0
_WIDTH, _HEIGHT = 480, 360
_VIDEO_FPS = 25.0
_NUM_KEY_FRAMES = 5


class Rendered(NamedTuple):
    """Files of one rendered episode.

    Attributes:
      gif: animation.
      strip: PNG of key frames.
      mp4: film, None where no encoder is installed.
      renderer: "egl", "osmesa" or "lines".
      note: what to install for better pictures; empty where there is nothing to say.
    """

    gif: Path
    strip: Path
    mp4: Path | None
    renderer: str
    note: str


def render_rollout(
    env: Env,
    policy: Any,
    disturbance: Disturbance,
    key: Array,
    folder: Path,
    *,
    name: str = "rollout",
    num_steps: int | None = None,
    libraries: tuple[str, ...] = GL_LIBRARIES,
    progress: Callable[[str], None] | None = None,
) -> Rendered:
    """Records an episode and writes `NAME.gif`, `NAME.png` and, where possible, `NAME.mp4`.

    Args:
      env: the environment of one instance.
      policy: what acts.
      disturbance: what pushes.
      key: of the episode.
      folder: where to write.
      name: stem of the files.
      num_steps: control steps; the spec's episode by default.
      libraries: GL libraries to try; none of them working is no error.
      progress: told in words what is being done.
    """
    tell = progress or (lambda text: None)
    tell(f"{name}: recording one episode")
    recording = record_episode(env, policy, disturbance, key, num_steps=num_steps)
    return film(env, recording, folder, name=name, libraries=libraries, progress=progress)


def film(
    env: Env,
    recording: Recording,
    folder: Path,
    *,
    name: str,
    libraries: tuple[str, ...] = GL_LIBRARIES,
    progress: Callable[[str], None] | None = None,
) -> Rendered:
    """Writes the films of a recorded episode; see `render_rollout`."""
    tell = progress or (lambda text: None)
    picked, fps = film_steps(recording)
    tell(f"{name}: drawing {len(picked)} frames")
    frames, renderer, note = draw(env, recording, picked, libraries=libraries)
    tell(f"{name}: writing the films")
    keys = key_frames(recording.force[picked])
    return write_films(frames, folder / name, fps=fps, keys=keys, renderer=renderer, note=note)


def film_steps(recording: Recording) -> tuple[NDArray[np.int64], float]:
    """Returns the steps to draw and the frames per second that show them in real time."""
    stride = max(1, round(1.0 / (_VIDEO_FPS * recording.dt_s)))
    return np.arange(0, len(recording.force), stride), 1.0 / (stride * recording.dt_s)


def write_films(
    frames: NDArray[np.uint8],
    stem: Path,
    *,
    fps: float,
    keys: list[int],
    renderer: str,
    note: str,
    gif_width: int = video.GIF_WIDTH,
) -> Rendered:
    """Writes `STEM.gif`, `STEM.png` and, where possible, `STEM.mp4`.

    Args:
      frames: [F, H, W, 3] pictures.
      stem: path without its ending.
      fps: frames per second.
      keys: frames of the strip.
      renderer: what drew them.
      note: what to install for better ones.
      gif_width: width of the GIF in pixels, where it then is small enough.
    """
    return Rendered(
        # Browsers slow GIFs of more than 50 frames per second down; half of 25 is smooth enough.
        gif=video.write_gif(frames[::2], stem.with_suffix(".gif"), fps=fps / 2, width=gif_width),
        strip=video.write_strip(frames, stem.with_suffix(".png"), indices=keys),
        mp4=video.write_mp4(frames, stem.with_suffix(".mp4"), fps=fps),
        renderer=renderer,
        note=note,
    )


def draw(
    env: Env,
    recording: Recording,
    picked: NDArray[np.int64],
    *,
    libraries: tuple[str, ...] = GL_LIBRARIES,
) -> tuple[NDArray[np.uint8], str, str]:
    """Returns [F, H, W, 3] frames of the picked steps, the renderer's name, and a note.

    Raises:
      UserError: the environment has no picture.
    """
    push = _push_over_limit(env, recording)
    model = scene.find_model(env)
    note = ""
    if model is not None and hasattr(recording.physics, "qpos"):
        qpos = np.asarray(recording.physics.qpos, float)[picked]
        for library in libraries:
            frames = gl_frames(model, qpos, push[picked], library)
            if frames is not None:
                return _label(frames, env, recording, picked), library, note
        note = _GL_HELP
    frames = line_frames(env, recording, push, picked)
    return _label(frames, env, recording, picked), "lines", note


def gl_frames(model: Any, qpos: NDArray, push: NDArray, library: str) -> NDArray[np.uint8] | None:
    """Draws poses with MuJoCo's renderer in a process of its own.

    Args:
      model: the `mujoco.MjModel`.
      qpos: [F, nq] poses.
      push: [F, 3] force over its limit, world frame.
      library: value of `MUJOCO_GL`.

    Returns:
      [F, H, W, 3] frames, or None where the library does not work.
    """
    import mujoco

    arrow = scene.ARROW_M * push if push.shape[-1] == 3 else np.zeros((len(qpos), 3))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mujoco.mj_saveModel(model, str(folder / "model.mjb"), None)
        np.savez(
            folder / "scene.npz",
            qpos=qpos,
            arrow_m=arrow,
            body=scene.followed_body(model),
            camera=_CAMERA,
            width=_WIDTH,
            height=_HEIGHT,
        )
        worker = Path(__file__).with_name("gl_worker.py")
        try:
            done = subprocess.run(
                [sys.executable, str(worker), str(folder)],
                env={**os.environ, "MUJOCO_GL": library},
                capture_output=True,
                timeout=_GL_TIMEOUT_S,
                check=False,
                # Lets Python spawn instead of fork: a fork beside JAX's threads may hang.
                close_fds=False,
            )
        except subprocess.TimeoutExpired:
            return None
        path = folder / "frames.npy"
        return np.load(path) if done.returncode == 0 and path.exists() else None


def line_frames(
    env: Env, recording: Recording, push: NDArray, picked: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Draws the picked steps as lines with matplotlib: [F, H, W, 3].

    Raises:
      UserError: the environment has no picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    views_at = scene.views_of(env, recording.physics, push, recording.parameters)
    count = len(views_at(int(picked[0])))
    figure = Figure(figsize=(_WIDTH * count / 120, _HEIGHT / 120), dpi=120)
    # The panels' places are given, whatever the caller's matplotlib is set to.
    figure.set_layout_engine("none")
    canvas = FigureCanvasAgg(figure)
    panels = [figure.add_axes((k / count, 0.0, 1.0 / count, 1.0)) for k in range(count)]
    frames = []
    for step in picked:
        for panel, view in zip(panels, views_at(int(step)), strict=True):
            panel.clear()
            _draw_view(panel, view, LineCollection)
        canvas.draw()
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return np.array(frames)


def key_frames(force: NDArray, count: int = _NUM_KEY_FRAMES) -> list[int]:
    """Picks frames for a strip: the first, the hardest push in each part, and the last.

    Args:
      force: [F, D] disturbance of each frame.
      count: frames to pick; fewer where there are fewer frames.
    """
    size = np.linalg.norm(force, axis=-1)
    count = min(count, len(size))
    if count < 3:
        return list(range(count))
    parts = np.array_split(np.arange(1, len(size) - 1), count - 2)
    return [0, *(_middle_of_largest(part, size[part]) for part in parts), len(size) - 1]


def _middle_of_largest(indices: NDArray, size: NDArray) -> int:
    largest = indices[size == size.max()]
    return int(largest[len(largest) // 2])


def _draw_view(panel: Any, view: scene.View, lines: Any) -> None:
    panel.add_collection(lines(view.segments, colors="black", linewidths=2.2, capstyle="round"))
    if view.ground_m is not None:
        panel.axhline(view.ground_m, color="0.6", linewidth=3, zorder=0)
    if np.any(view.arrow[0] != view.arrow[1]):
        style = {"arrowstyle": "-|>", "color": "#c01818", "linewidth": 2.5}
        panel.annotate("", xy=view.arrow[1], xytext=view.arrow[0], arrowprops=style)
    reach = view.reach_m
    panel.set_xlim(
        view.centre[0] - reach * _WIDTH / _HEIGHT, view.centre[0] + reach * _WIDTH / _HEIGHT
    )
    panel.set_ylim(view.centre[1] - reach, view.centre[1] + reach)
    panel.set_aspect("equal")
    panel.set_axis_off()
    panel.text(0.98, 0.02, view.title, transform=panel.transAxes, ha="right", fontsize=8)


def _push_over_limit(env: Env, recording: Recording) -> NDArray:
    """[T, D] disturbance over its limit (over its largest, where unbounded), world frame."""
    spec, force = env.spec.disturbance, recording.force
    largest = float(np.linalg.norm(force, axis=-1).max(initial=0.0)) or 1.0
    push = force / (spec.limit if 0 < spec.limit < np.inf else largest)
    if force.shape[-1] == 3 and "heading" in spec.meaning and hasattr(recording.physics, "qpos"):
        # The force is held in the frame that the robot had when the step began.
        qpos = np.asarray(recording.physics.qpos)
        before = np.concatenate([qpos[:1], qpos[:-1]])
        return scene.turn(push, scene.heading_of(env, before))
    return push


def _label(
    frames: NDArray[np.uint8], env: Env, recording: Recording, picked: NDArray[np.int64]
) -> NDArray[np.uint8]:
    unit = env.spec.disturbance.unit
    last = len(recording.force) - 1
    labelled = []
    for frame, step in zip(frames, picked, strict=True):
        size = float(np.linalg.norm(recording.force[step]))
        text = f"{(step + 1) * recording.dt_s:5.2f} s   {size:.3g} {unit}"
        is_end = recording.has_fallen and last - step < picked[min(1, len(picked) - 1)]
        labelled.append(video.annotate(frame, text + ("   fallen" if is_end else "")))
    return np.array(labelled)


__all__ = [
    "GL_LIBRARIES",
    "Rendered",
    "draw",
    "film",
    "film_steps",
    "gl_frames",
    "key_frames",
    "line_frames",
    "render_rollout",
    "write_films",
]
