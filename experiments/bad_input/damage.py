"""Run directories that are not as they should be.

Each function makes the folder that a case is tried in. A finished run is trained once and copied.
"""

import fcntl
import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from experiments.resume.run import SETTINGS

_TINY = SETTINGS["cartpole"].words(Path("run"), iterations=2)
TINY = " ".join(_TINY[_TINY.index("--device") :])
"""Options and settings of the finished run; more settings may follow."""

_HELD: list[TextIO] = []  # open files hold locks


@functools.cache
def trained() -> Path:
    """A run of two iterations that is trained once in each process."""
    from hinf_rl import cli

    folder = Path(tempfile.mkdtemp(prefix="bad-input-"))
    words = f"train cartpole --output {folder / 'run'} {TINY}"
    if cli.main(words.split()) != 0:
        raise RuntimeError("training of the run to be damaged failed")
    return folder / "run"


def forget_trained() -> None:
    """Deletes the trained run and frees the locks."""
    if trained.cache_info().currsize:
        shutil.rmtree(trained().parent)
        trained.cache_clear()


def free_locks() -> None:
    """Frees what `locked_run` holds."""
    while _HELD:
        _HELD.pop().close()


def finished_run(folder: Path) -> None:
    shutil.copytree(trained(), folder / "run")


def locked_run(folder: Path) -> None:
    finished_run(folder)
    _HELD.append((folder / "run" / ".lock").open("w"))
    fcntl.flock(_HELD[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)


def exported_cartpole(folder: Path) -> None:
    from hinf_rl import cli

    words = ["export", str(trained()), "--format", "numpy", "--output", str(folder / "policy.py")]
    if cli.main(words) != 0:
        raise RuntimeError("export of the trained run failed")


def no_onnx_model(folder: Path) -> None:
    (folder / "policy.onnx").write_bytes(bytes(range(256)))


def someone_elses_code(folder: Path) -> None:
    (folder / "policy.py").write_text("import pathlib\npathlib.Path('policy.py').unlink()\n")


def someone_elses_folder(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "thesis.tex").write_text("the only copy")


def a_file(folder: Path) -> None:
    (folder / "run").write_text("the only copy")


def an_empty_folder(folder: Path) -> None:
    (folder / "run").mkdir()


def without_config(folder: Path) -> None:
    finished_run(folder)
    (folder / "run" / "config.toml").unlink()


def cut_config(folder: Path) -> None:
    _edit(folder, "config.toml", lambda text: text[: text.index("task") + 7])


def empty_config(folder: Path) -> None:
    _edit(folder, "config.toml", lambda _: "")


def binary_config(folder: Path) -> None:
    finished_run(folder)
    (folder / "run" / "config.toml").write_bytes(bytes(range(256)))


def misspelt_config(folder: Path) -> None:
    _edit(folder, "config.toml", lambda text: text.replace("\ngamma =", "\ngama ="))


def unknown_task(folder: Path) -> None:
    _edit(folder, "config.toml", lambda text: text.replace('"cartpole"', '"cartpool"'))


def settings_of_another_run(folder: Path) -> None:
    _edit(folder, "config.toml", lambda text: text.replace("\ngamma = 0.99", "\ngamma = 0.5"))


def other_network(folder: Path) -> None:
    def widen(text: str) -> str:
        head, actor, tail = text.partition("[agent.actor]")
        lists, _, rest = tail.partition("]")
        return f"{head}{actor}{lists.replace('32', '16')}]{rest}"

    _edit(folder, "config.toml", widen)


def cut_manifest(folder: Path) -> None:
    _edit(folder, "manifest.json", lambda text: text[: len(text) // 2])


def damaged_log_line(folder: Path) -> None:
    _edit(folder, "metrics.jsonl", lambda text: text.replace('{"iteration":2', "{iteration:2"))


def no_checkpoint(folder: Path) -> None:
    finished_run(folder)
    shutil.rmtree(folder / "run" / "checkpoints")


def half_written_checkpoint(folder: Path) -> None:
    finished_run(folder)
    for index, path in enumerate(_checkpoints(folder)):
        path.rename(path.with_name(f".saving-{path.name}-{index}"))


def flipped_bit(folder: Path) -> None:
    def flip(content: bytes) -> bytes:
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]

    _change_arrays(folder, flip)


def truncated_arrays(folder: Path) -> None:
    _change_arrays(folder, lambda content: content[:-20])


def deleted_arrays(folder: Path) -> None:
    finished_run(folder)
    for path in _checkpoints(folder):
        shutil.rmtree(path / "arrays")


def deleted_leaf(folder: Path) -> None:
    finished_run(folder)
    for path in _checkpoints(folder):
        largest = max(_array_files(path), key=lambda file: file.stat().st_size)
        largest.unlink()


def no_checkpoint_manifest(folder: Path) -> None:
    finished_run(folder)
    for path in _checkpoints(folder):
        (path / "manifest.json").unlink()


def cut_checkpoint_manifest(folder: Path) -> None:
    finished_run(folder)
    for path in _checkpoints(folder):
        text = (path / "manifest.json").read_text()
        (path / "manifest.json").write_text(text[: len(text) // 2])


def newer_format(folder: Path) -> None:
    """A checkpoint in a format of the future, whole in itself."""
    from hinf_rl.training.checkpoint import _json_checksum

    finished_run(folder)
    for path in _checkpoints(folder):
        data = json.loads((path / "manifest.json").read_text())
        data.pop("checksum")
        data["format"] += 1
        data["checksum"] = _json_checksum(data)
        (path / "manifest.json").write_text(json.dumps(data))


def _edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    finished_run(folder)
    path = folder / "run" / name
    before = path.read_text()
    path.write_text(change(before))
    if path.read_text() == before:
        raise RuntimeError(f"{name} is as it was: the damage does not fit its text any more")


def _change_arrays(folder: Path, change: Callable[[bytes], bytes]) -> None:
    finished_run(folder)
    for path in _checkpoints(folder):
        for file in _array_files(path):
            file.write_bytes(change(file.read_bytes()))


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / "run" / "checkpoints").iterdir() if p.name.isdigit())


def _array_files(path: Path) -> list[Path]:
    return [file for file in (path / "arrays").rglob("*") if file.is_file() and file.stat().st_size]
