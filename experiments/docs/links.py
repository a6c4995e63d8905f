"""Links of Markdown files in the repository, and where they lead on the site.

Files keep the links that work in the repository; the site has its own folders. A target that the
site does not hold as a page is published beside the pages, under `files/`.
"""

import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from experiments.docs.public import PACKAGE, ROOT

_FENCE = re.compile(r"^ *(```|~~~)")
_LINK = re.compile(r"(?P<open>!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()(?P<target>[^()\s]+)(?P<close>\))")
_CODE = re.compile(r"`[^`]*`")
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *$")
# Files of the repository that are pages of the site under another name.
_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}


class Link(NamedTuple):
    """A link to something in the repository.

    Attributes:
      target: path from the repository's root.
      anchor: part after "#", without it; empty where there is none.
      line: number of its line, from 1.
    """

    target: str
    anchor: str
    line: int


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yields number (from 1) and text of the lines outside of fenced code."""
    is_code = False
    for number, line in enumerate(text.split("\n"), start=1):
        if _FENCE.match(line):
            is_code = not is_code
        elif not is_code:
            yield number, line


def links(text: str, source: str) -> list[Link]:
    """Returns the links of a file that stay in the repository.

    Args:
      text: its Markdown.
      source: its path from the repository's root.
    """
    found = []
    for number, line in prose(text):
        for match in _LINK.finditer(_CODE.sub(lambda code: " " * len(code.group()), line)):
            resolved = _resolve(match["target"], source)
            if resolved is not None:
                found.append(Link(*resolved, number))
    return found


def anchors(text: str) -> set[str]:
    """Returns the anchors of a Markdown file's headings."""
    found: set[str] = set()
    for _, line in prose(text):
        heading = _HEADING.match(line)
        if heading:
            slug, count = slugify(heading[2]), 0
            while (anchor := f"{slug}_{count}" if count else slug) in found:
                count += 1
            found.add(anchor)
    return found


def slugify(heading: str) -> str:
    """Returns a heading's anchor, as Python-Markdown makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^\w\s-]", "", plain).strip().lower()
    return re.sub(r"[-\s]+", "-", plain)


def demoted(text: str) -> str:
    """Returns Markdown whose headings lie one level deeper."""
    lines = text.split("\n")
    for number, line in prose(text):
        if _HEADING.match(line):
            lines[number - 1] = f"#{line}"
    return "\n".join(lines)


def rewritten(text: str, source: str, page: str) -> str:
    """Returns Markdown whose links lead to where the site has their targets.

    Args:
      text: the Markdown of `source`.
      source: its path from the repository's root.
      page: path of the page on the site that holds it.
    """
    lines = text.split("\n")
    for number, line in prose(text):
        lines[number - 1] = _replace(line, lambda target: _on_site(target, source, page))
    return "\n".join(lines)


def _replace(line: str, change: Callable[[str], str]) -> str:
    spans = [match.span() for match in _CODE.finditer(line)]

    def one(match: re.Match[str]) -> str:
        if any(start <= match.start() < end for start, end in spans):
            return match.group()
        return match["open"] + change(match["target"]) + match["close"]

    return _LINK.sub(one, line)


def _on_site(target: str, source: str, page: str) -> str:
    resolved = _resolve(target, source)
    if resolved is None:
        return target
    path, anchor = resolved
    place, inside = site_path(path)
    anchor = anchor or inside
    relative = posixpath.relpath(place, posixpath.dirname(page) or ".")
    return f"{relative}#{anchor}" if anchor else relative


def _resolve(target: str, source: str) -> tuple[str, str] | None:
    if "://" in target or target.startswith("mailto:"):
        return None
    path, _, anchor = target.partition("#")
    if not path:
        return source, anchor
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path)), anchor


def site_path(path: str) -> tuple[str, str]:
    """Returns where the site holds a file of the repository, and the anchor inside of that page.

    Args:
      path: from the repository's root.
    """
    parts = path.split("/")
    if path in _PAGES:
        return _PAGES[path], ""
    if parts[0] == "docs":
        return "/".join(parts[1:]), ""
    if parts[0] == "experiments" and len(parts) > 1:
        if path in (f"experiments/{parts[1]}", experiment_readme(parts[1])):
            return f"results/{parts[1]}.md", ""
        if path in reports(parts[1]):
            return f"results/{parts[1]}.md", _title_anchor(path)
    if parts[0] == PACKAGE and path.endswith(".py"):
        module = path.removesuffix(".py").removesuffix("/__init__")
        return reference_page(module.replace("/", ".")), ""
    return f"files/{path}", ""


def _title_anchor(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    return next((slugify(m[2]) for _, line in prose(text) if (m := _HEADING.match(line))), "")


def experiment_readme(name: str) -> str:
    """Returns the path of an experiment's README."""
    return f"experiments/{name}/README.md"


def reports(name: str) -> list[str]:
    """Returns the paths of an experiment's rendered reports."""
    folder = ROOT / "experiments" / name
    own = [path for path in sorted(folder.glob("*.md")) if path.name != "README.md"]
    found = [*own, *sorted((folder / "results").glob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in found]


def reference_page(dotted: str) -> str:
    """Returns the page of a module in the API reference."""
    path = dotted.replace(".", "/")
    is_package = (ROOT / path).is_dir()
    return f"reference/{path}/index.md" if is_package else f"reference/{path}.md"
