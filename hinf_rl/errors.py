"""The error that a user can mend, and the nearest known name for a mistyped one."""

import difflib
from collections.abc import Iterable

# More names than this are listed only where none is near.
_MANY = 10


class UserError(ValueError):
    """Something that the user asked for is wrong; the message names thing, value and fix.

    The command line prints the message without a traceback and exits with code 2.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Returns the error for an unknown `name`, with the nearest known one suggested.

    Args:
      kind: what the name was meant to name, for example "task".
      name: what was given.
      known: the names that exist.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = "" if near and len(known) > _MANY else f" (known: {', '.join(known)})"
    return UserError(f"unknown {kind} {name!r}{hint}{listed}")


__all__ = ["UserError", "unknown_name"]
