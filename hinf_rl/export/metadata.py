"""What an exported file says about itself, the same in every format; JSON values only."""

from collections.abc import Mapping
from typing import Any

from hinf_rl.errors import UserError

FORMAT = "hinf-rl policy"
"""Says in a file's metadata that this package wrote it."""
VERSION = 1
"""Version of the files that this package writes and reads."""
_REQUIRED = (
    "format",
    "format_version",
    "task",
    "algorithm",
    "seed_index",
    "iterations",
    "control_dt_s",
    "episode_length",
    "environment",
    "observation",
    "action_size",
    "action_limit",
    "network",
    "checked",
    "survival",
)


def check_metadata(metadata: Mapping[str, Any], name: str) -> None:
    """Refuses what no export wrote, what it wrote in another format, and what lost a part.

    Raises:
      UserError: says which.
    """
    if metadata.get("format") != FORMAT:
        raise UserError(f"{name} is not a policy that `hinf-rl export` wrote")
    version = metadata.get("format_version")
    if version != VERSION:
        raise UserError(
            f"{name} has format version {version}, this version reads {VERSION}; export it again"
        )
    lost = [key for key in _REQUIRED if key not in metadata]
    if lost:
        raise UserError(f"{name} is damaged: {', '.join(lost)} missing; export it again")


__all__ = ["FORMAT", "VERSION", "check_metadata"]
