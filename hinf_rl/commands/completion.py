"""`hinf-rl completion`: a shell script that completes commands, options, tasks and algorithms.

The names are written into the script: completing must not start Python.
"""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path

_PATHS = "@paths"

_SCRIPT = """# Completion of hinf-rl; made by `hinf-rl completion`, make it again after an update.
{start}_hinf_rl() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  if [[ $COMP_CWORD -eq 1 ]]; then
    words="{commands}"
  else
    case "${{COMP_WORDS[1]}} $before" in
{values}
      *)
        case "${{COMP_WORDS[1]}}" in
{options}
        esac ;;
    esac
  fi
  if [[ "$words" == "@paths" ]]; then
    COMPREPLY=($(compgen -f -- "$current"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ ${{#COMPREPLY[@]}} -eq 0 ]]; then COMPREPLY=($(compgen -f -- "$current")); fi
  fi
}}
complete -o filenames -F _hinf_rl hinf-rl
"""
_ZSH_START = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def print_completion(shell: str, commands: Mapping[str, type]) -> int:
    """Prints the script; returns the exit code.

    Args:
      shell: "bash" or "zsh".
      commands: command to the dataclass that holds its options.
    """
    from hinf_rl.tasks import TASKS

    algorithms = {name for task in TASKS.values() for name in task.workload.algorithms}
    print(completion_script(shell, commands, tasks=TASKS, algorithms=algorithms), end="")
    return 0


def completion_script(
    shell: str, commands: Mapping[str, type], *, tasks: Iterable[str], algorithms: Iterable[str]
) -> str:
    """Returns the script; see `print_completion`."""
    words = {"task": sorted(tasks), "algorithm": sorted(algorithms)}
    values, options = [], []
    for command, kind in commands.items():
        hints = typing.get_type_hints(kind, include_extras=True)
        names = {field.name: _option(field.name, hints[field.name]) for field in _fields(kind)}
        for field, option in names.items():
            known = words.get(field) or _choices(hints[field])
            if known:
                values.append(_case(f'"{command} {option}"', known))
        shown = [*names.values(), "--help"]
        options.append("    " + _case(command, shown))
        first = next(iter(names), "")
        known = words.get(first) or (_choices(hints[first]) if first else [])
        values.append(_case(f'"{command} {command}"', known or shown))
    return _SCRIPT.format(
        start=_ZSH_START if shell == "zsh" else "",
        commands=" ".join(commands),
        values="\n".join(values),
        options="\n".join(options),
    )


def _case(pattern: str, words: Iterable[str]) -> str:
    return f'      {pattern}) words="{" ".join(words)}" ;;'


def _fields(kind: type) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(kind)


def _option(name: str, hint: object) -> str:
    """The option of a field; an annotation may give it another name."""
    given = [getattr(extra, "name", None) for extra in getattr(hint, "__metadata__", ())]
    return "--" + next(filter(None, given), name).replace("_", "-")


def _choices(hint: object) -> list[str]:
    """The words of a Literal anywhere in a type, and that a path is meant."""
    if hint is Path:
        return [_PATHS]
    if typing.get_origin(hint) is typing.Literal:
        return list(map(str, typing.get_args(hint)))
    return [word for part in typing.get_args(hint) for word in _choices(part)]


__all__ = ["completion_script", "print_completion"]
