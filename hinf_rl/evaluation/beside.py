"""Two policies under the same push, in one film."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hinf_rl.envs.api import Env
from hinf_rl.errors import UserError
from hinf_rl.evaluation import render, video
from hinf_rl.evaluation.disturbances import Disturbance
from hinf_rl.evaluation.episode import record_episode
from hinf_rl.types import Array

_GIF_WIDTH = 720


class Side(NamedTuple):
    """One policy of the film.

    Attributes:
      label: written above it.
      env: the environment of one instance.
      policy: what acts in it.
    """

    label: str
    env: Env
    policy: Any


def render_beside(
    sides: Sequence[Side],
    disturbance: Disturbance,
    key: Array,
    folder: Path,
    *,
    name: str = "beside",
    num_steps: int | None = None,
    libraries: tuple[str, ...] = render.GL_LIBRARIES,
    progress: Callable[[str], None] | None = None,
) -> render.Rendered:
    """Writes `NAME.gif`, `NAME.png` and, where possible, `NAME.mp4` of policies side by side.

    Start state and pushes follow from the same key; a policy that falls keeps its last picture
    until the other's episode ends.

    Args:
      sides: the policies, on environments of one task.
      disturbance: what pushes each of them, made for one environment.
      key: of the episode.
      folder: where to write.
      name: stem of the files.
      num_steps: control steps; the spec's episode by default.
      libraries: GL libraries to try; none of them working is no error.
      progress: told in words what is being done.

    Raises:
      UserError: the environments differ in task or control period, or have no picture.
    """
    tell = progress or (lambda text: None)
    _check_alike([side.env for side in sides])
    films, notes, longest = [], [], None
    for side in sides:
        tell(f"{name}: recording and drawing {side.label}")
        recording = record_episode(side.env, side.policy, disturbance, key, num_steps=num_steps)
        picked, fps = render.film_steps(recording)
        frames, renderer, note = render.draw(side.env, recording, picked, libraries=libraries)
        films.append(video.titled(frames, side.label))
        notes.append((renderer, note, fps))
        if longest is None or len(picked) > len(longest):
            longest = recording.force[picked]
    renderer, note, fps = notes[0]
    return render.write_films(
        video.side_by_side(films),
        folder / name,
        fps=fps,
        keys=render.key_frames(np.asarray(longest), count=3),
        renderer=renderer,
        note=note,
        gif_width=_GIF_WIDTH,
    )


def _check_alike(envs: Sequence[Env]) -> None:
    first = envs[0].spec
    for env in envs[1:]:
        if (env.spec.name, env.spec.dt_s) != (first.name, first.dt_s):
            raise UserError(
                f"cannot film {first.name!r} ({first.dt_s:g} s per step) beside {env.spec.name!r} "
                f"({env.spec.dt_s:g} s per step); choose runs of one task"
            )


__all__ = ["Side", "render_beside"]
