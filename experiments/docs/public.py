"""The public names of the package, read from its source without importing it.

Some modules need packages that are not installed everywhere, so nothing is imported: `__all__`,
definitions and docstrings are read from the syntax tree.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
PACKAGE = "hinf_rl"


class Name(NamedTuple):
    """A name in a module's `__all__`.

    Attributes:
      name: as it is imported.
      home: dotted path of its definition; of another module where it is re-exported.
      docstring: of the definition; None where there is none.
    """

    name: str
    home: str
    docstring: str | None

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (self.docstring or "").strip().partition("\n")[0]


class Module(NamedTuple):
    """A public module: no part of its dotted name starts with an underscore.

    Attributes:
      dotted: its full name.
      path: its file.
      docstring: of the module.
      names: of `__all__`, in its order.
    """

    dotted: str
    path: Path
    docstring: str
    names: tuple[Name, ...]

    @property
    def is_package(self) -> bool:
        """Whether other modules lie below it."""
        return self.path.name == "__init__.py"


class _Source(NamedTuple):
    docstring: str
    all_names: tuple[str, ...]
    defined: dict[str, str | None]  # to its docstring
    imported: dict[str, str]  # to its dotted path elsewhere


@functools.cache
def public_modules() -> tuple[Module, ...]:
    """Returns every public module, sorted by name."""
    found = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            found.append(_module(".".join(parts), path))
    return tuple(sorted(found))


def _module(dotted: str, path: Path) -> Module:
    source = _read(path)
    names = tuple(_resolve(dotted, name) for name in source.all_names)
    return Module(dotted, path, source.docstring, names)


def _resolve(module: str, name: str) -> Name:
    """Follows re-exports to the definition."""
    defined_in, local = module, name
    for _ in range(10):
        path = _file_of(defined_in)
        source = _read(path)
        if local in source.defined:
            return Name(name, f"{defined_in}.{local}", source.defined[local])
        if local not in source.imported:
            break
        defined_in, _, local = source.imported[local].rpartition(".")
        submodule = f"{defined_in}.{local}"
        if _exists(submodule):
            return Name(name, submodule, _read(_file_of(submodule)).docstring)
    raise ValueError(f"{module}.__all__ holds {name!r}, which is defined nowhere in {PACKAGE}")


def _exists(dotted: str) -> bool:
    base = ROOT.joinpath(*dotted.split("."))
    return base.with_suffix(".py").exists() or (base / "__init__.py").exists()


def _file_of(dotted: str) -> Path:
    base = ROOT.joinpath(*dotted.split("."))
    module = base.with_suffix(".py")
    return module if module.exists() else base / "__init__.py"


@functools.cache
def _read(path: Path) -> _Source:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined: dict[str, str | None] = {}
    imported: dict[str, str] = {}
    all_names: tuple[str, ...] = ()
    statements = list(_top_level(tree.body))
    for statement, following in zip(statements, [*statements[1:], None], strict=True):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined[statement.name] = ast.get_docstring(statement)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            for alias in statement.names:
                imported[alias.asname or alias.name] = f"{statement.module}.{alias.name}"
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            for target in _targets(statement):
                if target == "__all__" and statement.value is not None:
                    all_names = tuple(ast.literal_eval(statement.value))
                else:
                    defined[target] = _string(following)
    return _Source(ast.get_docstring(tree) or "", all_names, defined, imported)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If):
            yield from _top_level(statement.body)
            yield from _top_level(statement.orelse)
        elif isinstance(statement, ast.Try):
            yield from _top_level(statement.body)
        else:
            yield statement


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _string(statement: ast.stmt | None) -> str | None:
    """Returns the string that documents the assignment before it."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return value if isinstance(value, str) else None
    return None
