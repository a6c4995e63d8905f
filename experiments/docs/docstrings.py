"""An extension of Griffe: docstrings become the Markdown that they are meant to be."""

import re
from typing import Any

import griffe

_NAMES = re.compile(r"^(\s+)(\w+(?:, \w+)+): (.*)$")
_CODE = re.compile(r"(`[^`]*`)")
_TAG = re.compile(r"<(?=[A-Za-z/!])")


class HouseStyle(griffe.Extension):
    """Lets several names share a line of a docstring, and keeps `<` from starting HTML."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrites an object's docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """Returns a docstring with one name per item, and `<` as it is meant."""
    lines: list[str] = []
    pending: list[tuple[str, list[str]]] = []  # items whose description goes on
    for line in docstring.split("\n"):
        item = _NAMES.match(line)
        goes_on = pending and line.strip() and _indent(line) > len(pending[0][0])
        if goes_on:
            for _, copied in pending:
                copied.append(line)
            continue
        lines += [text for _, copied in pending for text in copied]
        pending = []
        if item:
            indent, names, text = item.groups()
            pending = [(indent, [f"{indent}{name}: {text}"]) for name in names.split(", ")]
        else:
            lines.append(line)
    lines += [text for _, copied in pending for text in copied]
    return "\n".join(_escaped(line) for line in lines)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _escaped(line: str) -> str:
    if line.lstrip().startswith(">>>"):
        return line
    parts = _CODE.split(line)
    return "".join(part if part.startswith("`") else _TAG.sub("&lt;", part) for part in parts)
