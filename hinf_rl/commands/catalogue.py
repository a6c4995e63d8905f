"""`hinf-rl list`: the tasks and algorithms there are."""

from collections.abc import Mapping

from hinf_rl.workload import Workload


def list_all() -> int:
    """Prints each family of tasks with its algorithms; returns the exit code."""
    from hinf_rl.adapted_tasks import PREFIXES
    from hinf_rl.tasks import TASKS

    families: dict[str, Workload] = {task.workload.name: task.workload for task in TASKS.values()}
    for family, workload in families.items():
        tasks = {name: task.summary for name, task in TASKS.items() if task.workload.name == family}
        if family == "robust control":
            tasks |= {f"{prefix}:NAME": summary for prefix, summary in PREFIXES.items()}
        _section(f"{family}: tasks", tasks)
        _section(
            f"{family}: algorithms, {workload.default_algorithm} where none is named",
            workload.algorithms,
        )
    return 0


def _section(title: str, lines: Mapping[str, str]) -> None:
    print(title)
    width = max(map(len, lines))
    for name, summary in lines.items():
        print(f"  {name:<{width}}  {summary}")


__all__ = ["list_all"]
