"""Tokenizers that published checkpoints come with (tokenizer.json). The extra `language`."""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hinf_rl.errors import UserError

_FILE, _SETTINGS = "tokenizer.json", "tokenizer_config.json"


class PretrainedTokenizer:
    """A tokenizer.json behind our protocol; made by `load_tokenizer`."""

    def __init__(self, backend: Any, *, pad_id: int, bos_id: int | None, eos_id: int) -> None:
        self._backend = backend
        self._pad, self._bos, self._eos = pad_id, bos_id, eos_id

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included; a model's table may be larger."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def pad_id(self) -> int:
        """Id of the filler; the end token's where the files name none."""
        return self._pad

    @property
    def bos_id(self) -> int | None:
        """Id of the opening token, where the model has one."""
        return self._bos

    @property
    def eos_id(self) -> int:
        """Id of the ending token."""
        return self._eos

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, without special tokens around it."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of `ids`, without special tokens."""
        # The files need not mark these three as special.
        special = {self._pad, self._bos, self._eos}
        kept = [int(index) for index in ids if index not in special]
        return self._backend.decode(kept, skip_special_tokens=True)


def load_tokenizer(
    path: Path | str, *, pad: str | None = None, bos: str | None = None, eos: str | None = None
) -> PretrainedTokenizer:
    """Reads the tokenizer beside a checkpoint.

    Args:
      path: tokenizer.json, or the directory that holds it.
      pad: token that fills unused slots; None takes what tokenizer_config.json says, else eos.
      bos: token that opens a text; None takes what tokenizer_config.json says, if anything.
      eos: token that ends a text; None takes what tokenizer_config.json says.

    Raises:
      UserError: the package is not installed, a file is missing or damaged, or a special token
        is unknown.
    """
    backend_module = _import_tokenizers()
    path = Path(path)
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file} is missing; name a tokenizer.json or its directory")
    try:
        backend = backend_module.Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises bare Exception
        raise UserError(f"{file} is not a tokenizer ({error}); fetch it again") from error
    settings = _settings(file.with_name(_SETTINGS))
    names = {
        "pad": pad or _token(settings, "pad"),
        "bos": bos or _token(settings, "bos"),
        "eos": eos or _token(settings, "eos"),
    }
    ids = {role: _id(backend, file, role, name) for role, name in names.items()}
    if ids["eos"] is None:
        raise UserError(f'{file.with_name(_SETTINGS)} names no eos_token; give it as eos="..."')
    return PretrainedTokenizer(
        backend,
        pad_id=ids["eos"] if ids["pad"] is None else ids["pad"],
        bos_id=ids["bos"],
        eos_id=ids["eos"],
    )


def _import_tokenizers() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ImportError as error:
        raise UserError(
            "tokenizer files need the tokenizers package: pip install 'hinf-rl[language]'"
        ) from error


def _settings(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); fetch it again") from error
    return found if isinstance(found, dict) else {}


def _token(settings: Mapping[str, Any], role: str) -> str | None:
    """A special token, written as a text or as a table with its content."""
    found = settings.get(f"{role}_token")
    return found.get("content") if isinstance(found, dict) else found


def _id(backend: Any, file: Path, role: str, name: str | None) -> int | None:
    if name is None:
        return None
    found = backend.token_to_id(name)
    if found is None:
        raise UserError(f"the {role} token {name!r} is not in {file}")
    return found


__all__ = ["PretrainedTokenizer", "load_tokenizer"]
