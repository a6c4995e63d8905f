"""The pictures of a report: films under force, gait, and the figures drawn from results and log."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.envs.api import Env
from hinf_rl.errors import UserError
from hinf_rl.evaluation import disturbances, plots
from hinf_rl.evaluation.beside import Side, render_beside
from hinf_rl.evaluation.episode import record_episode
from hinf_rl.evaluation.gait import WINDOW_S, foot_contacts, gait_picture
from hinf_rl.evaluation.protocol import held_out_key
from hinf_rl.evaluation.render import Rendered, film
from hinf_rl.evaluation.rose import attack_rose

RENDER_S = 8.0
"""Length of a rendered episode in seconds, where nothing falls before."""

_RENDER_KEY = 2  # folded into the held-out key: films show no episode of the tests

Tell = Callable[[str], None]
"""Receives progress in words."""


class Subject(NamedTuple):
    """A policy to draw.

    Attributes:
      label: what it is called beside another one.
      env: its nominal environment.
      policy: what acts.
      disturber: what it was trained against; None where it learned none.
    """

    label: str
    env: Env
    policy: Any
    disturber: Any = None

    @property
    def limit(self) -> float:
        """Size of the pushes: the environment's bound, 1 where there is none."""
        limit = self.env.spec.disturbance.limit
        return limit if 0 < limit < math.inf else 1.0


def draw_films(
    subject: Subject,
    folder: Path,
    tell: Tell,
    *,
    seconds: float = RENDER_S,
    other: Subject | None = None,
) -> dict[str, Rendered]:
    """Writes the films of a policy, its gait where it has feet, and a film beside another's.

    Args:
      subject: the policy.
      folder: where to write; pictures of an earlier call that are not drawn now are deleted.
      tell: receives progress in words.
      seconds: longest episode.
      other: a policy of the same task to film beside it.

    Returns:
      The files of each film, by name.

    Raises:
      UserError: the task has no picture.
    """
    for name in ("disturber", "beside", "gait"):
        for ending in ("gif", "png", "mp4"):
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
    spec = subject.env.spec
    key = jax.random.fold_in(held_out_key(), _RENDER_KEY)
    num_steps = min(spec.episode_length, math.ceil(seconds / spec.dt_s))
    films, pushes = {}, _pushes(subject)
    for name, push in pushes.items():
        tell(f"{name}: recording one episode")
        recording = record_episode(subject.env, subject.policy, push, key, num_steps=num_steps)
        films[name] = film(subject.env, recording, folder, name=name, progress=tell)
        if name == "sudden" and foot_contacts(recording) is not None:
            window = min(num_steps, math.ceil(WINDOW_S / spec.dt_s))
            quiet = disturbances.Quiet(size=spec.disturbance.size)
            rest = record_episode(subject.env, subject.policy, quiet, key, num_steps=window)
            label = f"pushes of {subject.limit:g} {spec.disturbance.unit} (shaded)"
            gait_picture({"no force": rest, label: recording}, folder / "gait.png")
    if other is not None:
        sides = [Side(one.label, one.env, one.policy) for one in (subject, other)]
        films["beside"] = render_beside(
            sides, pushes["sudden"], key, folder, num_steps=num_steps, progress=tell
        )
    return films


def draw_films_or_say_why(
    subject: Subject, folder: Path, tell: Tell, *, other: Subject | None
) -> list[str]:
    """Draws for a report, where a missing picture is a note and no failure; returns the notes."""
    try:
        films = draw_films(subject, folder, tell, other=other)
    except UserError as error:
        return [str(error)]
    return sorted({one.note for one in films.values() if one.note})


def draw_figures(
    run_dir: Path, results: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]
) -> None:
    """Draws what follows from the results and the log of training; leaves out what does not.

    Args:
      run_dir: the run directory.
      results: of its evaluation.
      others: label to results to draw beside these.
    """
    from hinf_rl.training.logging import read_metrics

    folder = run_dir / "report"
    log = read_metrics(run_dir / "metrics.jsonl")
    label = results["algorithm"]
    for name, draw in (
        ("survival.png", lambda p: plots.survival_against_force({label: results, **others}, p)),
        ("attack.png", lambda p: attack_rose(results["per_seed"][0], p)),
        ("curves.png", lambda p: plots.learning_curves({label: [log]}, p)),
        ("multiplier.png", lambda p: plots.multiplier_phase([log], p)),
    ):
        # An older picture must not pass for this evaluation's.
        (folder / name).unlink(missing_ok=True)
        try:
            draw(folder / name)
        except plots.NothingToDrawError:
            continue


def _pushes(subject: Subject) -> dict[str, Any]:
    spec, limit = subject.env.spec, subject.limit
    if not spec.disturbance.size:
        return {"sudden": disturbances.Quiet(size=0)}
    pushes: dict[str, Any] = {"sudden": disturbances.sudden(spec, limit)}
    if subject.disturber is not None and limit == spec.disturbance.limit:
        pushes["disturber"] = disturbances.Attacker(
            policy=subject.disturber, magnitude=jnp.float32(limit), limit=limit
        )
    return pushes


__all__ = [
    "RENDER_S",
    "Subject",
    "Tell",
    "draw_figures",
    "draw_films",
    "draw_films_or_say_why",
]
