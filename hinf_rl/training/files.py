"""Files that are either whole or absent, and directories that vanish in one move."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hinf_rl.errors import UserError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes `content` beside `path` and renames it into place; text as UTF-8.

    Raises:
      UserError: no room, or no permission.
    """
    with disk_errors(f"write {path}"):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode("utf-8") if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; a run is meant to be read by others.
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_json(path: Path, data: Any) -> None:
    """Writes `data` as indented JSON, atomically."""
    write_atomic(path, json.dumps(data, indent=2, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON from `path`.

    Raises:
      UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; is this a run directory of hinf-rl?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it or start a new run") from error


def remove_tree(path: Path) -> None:
    """Deletes a directory; a reader never sees it half deleted."""
    aside = path.with_name(f".deleted-{path.name}-{os.getpid()}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def disk_errors(action: str) -> Iterator[None]:
    """Turns a full disk or a refused write inside the block into an error with a cure."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if _is_full(error):
            raise UserError(
                f"cannot {action}: no space left on the disk; free some, then go on with "
                "--resume (what was saved before is intact)"
            ) from error
        is_refused = isinstance(error, PermissionError | NotADirectoryError | FileExistsError)
        if is_refused or (isinstance(error, OSError) and error.errno == errno.EROFS):
            raise UserError(
                f"cannot {action}: {error.strerror}; choose another directory"
            ) from error
        raise


def _is_full(error: BaseException) -> bool:
    """Whether the disk or the quota is used up; libraries wrap the system's own error."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in full:
        return True
    text = str(error).lower()
    return any(os.strerror(code).lower() in text for code in full)


__all__ = ["disk_errors", "read_json", "remove_tree", "write_atomic", "write_json"]
