"""Which foot stands when: footfall over time, at rest and when pushed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hinf_rl.evaluation import style
from hinf_rl.evaluation.episode import Recording
from hinf_rl.evaluation.plots import NothingToDrawError

WINDOW_S = 4.0
"""Time that the picture shows, from the start of the episode."""

_SHADE = {"color": "#e07b12", "alpha": 0.3, "linewidth": 0, "zorder": 0}


def foot_contacts(recording: Recording) -> NDArray[np.bool_] | None:
    """[T, 4] which foot touches the ground at the end of each step; None for no quadruped.

    A foot touches as the task has it: its sole is less than 5 mm above the ground.
    """
    contacts = getattr(recording.physics, "in_contact", None)
    return None if contacts is None else np.asarray(contacts, bool)


def gait_picture(recordings: Mapping[str, Recording], path: Path) -> Path:
    """Draws the feet's contacts over time, a panel per episode; pushes are shaded.

    The number behind a foot's name is its duty factor: the share of the shown time it stands.

    Args:
      recordings: label to episode.
      path: PNG to write.

    Raises:
      NothingToDrawError: the episodes have no feet.
    """
    shown = {label: (one, foot_contacts(one)) for label, one in recordings.items()}
    if not shown or any(contacts is None for _, contacts in shown.values()):
        raise NothingToDrawError("only the quadruped's episodes hold foot contacts")
    figure, panels = style.panels(len(shown), inches=(8.0, 1.7), columns=1)
    # As long as the longest episode, so that one that falls early still shows its steps.
    longest_s = max(len(one.force) * one.dt_s for one, _ in shown.values())
    for panel, (label, (recording, contacts)) in zip(panels, shown.items(), strict=True):
        _draw_gait(panel, label, recording, np.asarray(contacts))
        panel.set_xlim(0.0, min(WINDOW_S, 1.05 * longest_s))
    panels[-1].set_xlabel("time (s)", fontsize=9)
    return style.save(figure, path)


def stances(contacts: NDArray[np.bool_], dt_s: float) -> list[tuple[float, float]]:
    """Returns (start, duration) in seconds of each run of True in [T] contacts."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], contacts.astype(np.int8), [0]])))
    return [(float(a) * dt_s, float(b - a) * dt_s) for a, b in edges.reshape(-1, 2)]


def _draw_gait(panel: Any, label: str, recording: Recording, contacts: NDArray[np.bool_]) -> None:
    from hinf_rl.envs.legged.robots import LEGS

    steps = min(len(contacts), round(WINDOW_S / recording.dt_s))
    contacts = contacts[:steps]
    for foot in range(len(LEGS)):
        spans = stances(contacts[:, foot], recording.dt_s)
        panel.broken_barh(spans, (foot - 0.36, 0.72), color=style.line(0)["color"], linewidth=0)
    pushed = np.linalg.norm(recording.force[:steps], axis=-1) > 0
    for start_s, duration_s in stances(pushed, recording.dt_s):
        panel.axvspan(start_s, start_s + duration_s, **_SHADE)
    if recording.has_fallen and steps == len(recording.force):
        panel.axvline(steps * recording.dt_s, color="black", linewidth=1.5)
        panel.text(steps * recording.dt_s, -0.4, " fell", fontsize=8, va="top")
    duty = contacts.mean(axis=0)
    panel.set_yticks(
        range(len(LEGS)), [f"{leg}  {share:.2f}" for leg, share in zip(LEGS, duty, strict=True)]
    )
    panel.set_ylim(len(LEGS) - 0.5, -0.5)
    panel.set_title(f"{label}; bar: foot on the ground, number: its share of the time", fontsize=9)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


__all__ = ["WINDOW_S", "foot_contacts", "gait_picture", "stances"]
