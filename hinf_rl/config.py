"""Frozen dataclasses to nested dictionaries, TOML and dotted overrides, and back.

The annotation of a field is its schema: unknown keys and wrong types are errors that name
the dotted path, what was given and what is allowed. TOML has no null, so None is written as
the string "none"; a field that may be None therefore cannot hold the string "none".
"""

import ast
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from hinf_rl.errors import UserError, unknown_name

_T = TypeVar("_T")
_NONE_WORD = "none"
_BOOL_WORDS = {"true": True, "false": False}


def to_dict(config: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass as a nested dictionary; tuples become lists."""
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.init
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def from_dict(cls: type[_T], data: Mapping[str, Any], *, path: str = "") -> _T:
    """Builds the dataclass `cls` from nested dictionaries, strictly.

    Args:
      cls: the dataclass to build; fields that `data` lacks keep their defaults.
      data: values as `to_dict` or a TOML file gives them.
      path: dotted name of `cls` in messages, "" at the root.

    Raises:
      UserError: unknown key, wrong type, missing value, or a value that `cls` rejects.
    """
    if not isinstance(data, Mapping):
        raise _mismatch(path, data, "a table of settings")
    hints = _field_types(cls)
    for name in data:
        if name not in hints:
            raise unknown_name("key", _join(path, name), [_join(path, known) for known in hints])
    values = {
        name: _typed(value, hints[name], _join(path, name), is_text=False)
        for name, value in data.items()
    }
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType] any dataclass
        has_default = (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        )
        if field.init and not has_default and field.name not in values:
            raise UserError(f"missing key {_join(path, field.name)!r}; it has no default")
    return _build(functools.partial(cls, **values), path)


def with_overrides(config: _T, overrides: Mapping[str, Any]) -> _T:
    """Returns `config` with dotted keys replaced, for example `{"agent.gamma": "0.98"}`.

    Strings are read by the annotation of the field they set; other values are checked.

    Args:
      config: a dataclass instance; fields may be dataclasses themselves.
      overrides: dotted key to value.

    Raises:
      UserError: unknown key, a value of the wrong type, or one that the dataclass rejects.
    """
    return _override(config, _nest(overrides), "")


def dumps_toml(config: Any) -> str:
    """Returns a dataclass or nested dictionary as TOML text, None written as "none"."""
    import tomli_w

    data = config if isinstance(config, Mapping) else to_dict(config)
    return tomli_w.dumps(_without_null(data))


def loads_toml(text: str, *, source: str = "configuration") -> dict[str, Any]:
    """Parses TOML text into nested dictionaries.

    Raises:
      UserError: the text is not TOML; the message names `source` and the line.
    """
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source} is not valid TOML: {error}") from error


def differences(old: Any, new: Any) -> list[str]:
    """Returns one line `key: old -> new` for each dotted key in which two configs differ."""
    left, right = flatten(to_dict(old)), flatten(to_dict(new))
    return [
        f"{key}: {left.get(key, 'absent')} -> {right.get(key, 'absent')}"
        for key in sorted({*left, *right})
        if key not in left or key not in right or not _same(left[key], right[key])
    ]


def flatten(data: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Returns nested dictionaries as one dictionary with dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        key = _join(path, name)
        flat.update(flatten(value, key) if isinstance(value, Mapping) else {key: value})
    return flat


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return left == right


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_null(item) for item in value]
    return _NONE_WORD if value is None else value


def _nest(overrides: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for dotted, value in overrides.items():
        *parents, leaf = dotted.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise UserError(f"{dotted!r} sets a field inside a value that is also set")
        if isinstance(node.get(leaf), dict):
            raise UserError(f"{dotted!r} is set as a whole and field by field; choose one")
        node[leaf] = value
    return tree


def _override(config: _T, tree: Mapping[str, Any], path: str) -> _T:
    hints = _field_types(type(config))
    values = {}
    for name, value in tree.items():
        key = _join(path, name)
        if name not in hints:
            raise unknown_name("key", key, [_join(path, known) for known in hints])
        current = getattr(config, name)
        if dataclasses.is_dataclass(current) and not isinstance(value, type(current)):
            if not isinstance(value, Mapping):
                inner = ", ".join(_join(key, known) for known in _field_types(type(current)))
                raise UserError(f"{key!r} is a group of settings; set one of {inner}")
            values[name] = _override(current, value, key)
        elif isinstance(value, Mapping) and not _takes_mapping(hints[name]):
            raise UserError(f"{key!r} is a single value; nothing lies below it")
        else:
            values[name] = _typed(value, hints[name], key, is_text=isinstance(value, str))
    return _build(functools.partial(dataclasses.replace, config, **values), path)  # pyright: ignore[reportArgumentType] any dataclass


def _build(make: Any, path: str) -> Any:
    """Calls `make`, and puts the dotted path in front of what a `__post_init__` rejects."""
    try:
        return make()
    except ValueError as error:
        prefix = f"{path}: " if path and not str(error).startswith(path) else ""
        raise UserError(f"{prefix}{error}") from error


def _typed(value: Any, hint: Any, key: str, *, is_text: bool) -> Any:
    """Returns `value` as the annotation `hint` wants it.

    Args:
      value: what was given.
      hint: the annotation.
      key: dotted name for messages.
      is_text: whether strings are to be parsed (command line) or taken as they are (TOML).
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _typed_union(value, hint, key, is_text=is_text)
    if origin is typing.Literal:
        return _typed_literal(value, arguments, key, is_text=is_text)
    if origin in (tuple, list) or hint in (tuple, list):
        return _typed_sequence(value, origin or hint, arguments, key, is_text=is_text)
    if origin in (dict, Mapping) or hint is dict:
        return _typed_mapping(value, arguments, key)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_dict(hint, value, path=key)
    return _typed_scalar(value, hint, key, is_text=is_text)


def _typed_scalar(value: Any, hint: Any, key: str, *, is_text: bool) -> Any:
    parsed = _parse(value.strip(), hint) if is_text and isinstance(value, str) else value
    if hint is float and isinstance(parsed, int) and not isinstance(parsed, bool):
        return float(parsed)
    is_bool_for_number = isinstance(parsed, bool) and hint is not bool
    if not isinstance(hint, type) or not isinstance(parsed, hint) or is_bool_for_number:
        raise _mismatch(key, value, _describe(hint))
    return parsed


def _parse(text: str, hint: Any) -> Any:
    """Reads `text` as a scalar of type `hint`; returns the text itself where it is none."""
    if hint is bool:
        return _BOOL_WORDS.get(text.lower(), text)
    if hint is str:
        return text
    try:
        number = float(text.replace("_", ""))
        if hint is float:
            return number
        # int() first: large integers do not survive the way through a float.
        return int(text) if text.lstrip("+-").replace("_", "").isdigit() else _integral(number)
    except ValueError:
        return text


def _integral(number: float) -> int | float:
    return int(number) if math.isfinite(number) and number == int(number) else number


def _typed_union(value: Any, hint: Any, key: str, *, is_text: bool) -> Any:
    members = typing.get_args(hint)
    if type(None) in members and (
        value is None or (isinstance(value, str) and value.strip().lower() == _NONE_WORD)
    ):
        return None
    error: UserError | None = None
    for member in members:
        if member is type(None):
            continue
        try:
            return _typed(value, member, key, is_text=is_text)
        except UserError as reason:
            error = error or reason
    single = len([member for member in members if member is not type(None)]) == 1
    if single and error is not None and dataclasses.is_dataclass(members[0]):
        raise error
    raise _mismatch(key, value, _describe(hint))


def _typed_literal(value: Any, choices: tuple[Any, ...], key: str, *, is_text: bool) -> Any:
    for choice in choices:
        same_type = type(choice) is type(value)
        if (same_type and choice == value) or (is_text and str(choice) == str(value).strip()):
            return choice
    if isinstance(value, str):
        raise unknown_name(f"value for {key!r}:", value, [str(choice) for choice in choices])
    raise _mismatch(key, value, "one of " + ", ".join(repr(choice) for choice in choices))


def _typed_sequence(
    value: Any, kind: type, arguments: tuple[Any, ...], key: str, *, is_text: bool
) -> Any:
    expected = _describe(kind[arguments]) if arguments else kind.__name__  # pyright: ignore[reportIndexIssue] tuple or list
    items = _split_items(value) if is_text and isinstance(value, str) else value
    if not isinstance(items, tuple | list):
        raise _mismatch(key, value, expected)
    is_open = not arguments or kind is list or arguments[-1] is Ellipsis
    inner = (arguments[:1] or (Any,)) * len(items) if is_open else arguments
    if len(inner) != len(items):
        raise _mismatch(key, value, expected)
    return kind(
        _typed(item, hint, f"{key}[{i}]", is_text=is_text and isinstance(item, str))
        for i, (item, hint) in enumerate(zip(items, inner, strict=True))
    )


def _split_items(text: str) -> Any:
    """Reads `1, 2`, `(1, 2)` or `[1, 2]`; words need no quotes."""
    stripped = text.strip()
    try:
        literal = ast.literal_eval(stripped)
    except (SyntaxError, ValueError):
        inner = stripped[1:-1] if stripped[:1] + stripped[-1:] in ("()", "[]") else stripped
        return [part.strip() for part in inner.split(",") if part.strip()]
    return literal if isinstance(literal, tuple | list) else (literal,)


def _takes_mapping(hint: Any) -> bool:
    return typing.get_origin(hint) in (dict, Mapping) or hint in (dict, Any)


def _typed_mapping(value: Any, arguments: tuple[Any, ...], key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(key, value, "a table")
    hint = arguments[1] if arguments else Any
    return {
        name: _typed(item, hint, _join(key, name), is_text=isinstance(item, str))
        for name, item in value.items()
    }


@functools.cache
def _field_types(cls: type) -> dict[str, Any]:
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls!r} is not a dataclass")
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _describe(hint: Any) -> str:
    if hint is type(None):
        return "none"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_describe(member) for member in typing.get_args(hint))
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _mismatch(key: str, value: Any, expected: str) -> UserError:
    name = f"{key!r}" if key else "the configuration"
    return UserError(f"{name} must be {expected}, got {value!r} ({type(value).__name__})")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)


__all__ = [
    "differences",
    "dumps_toml",
    "flatten",
    "from_dict",
    "loads_toml",
    "to_dict",
    "with_overrides",
]
