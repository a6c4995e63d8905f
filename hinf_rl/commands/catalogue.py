"""`hinf-rl list`: the tasks and algorithms there are."""


def list_all() -> int:
    """Prints tasks and algorithms with one line each; returns the exit code."""
    from hinf_rl.adapted_tasks import PREFIXES
    from hinf_rl.tasks import ALGORITHMS, TASKS

    width = max(len(name) for name in (*TASKS, *ALGORITHMS))
    print("tasks")
    for name, task in TASKS.items():
        print(f"  {name:<{width}}  {task.summary}")
    print("tasks of other packages")
    for prefix, summary in PREFIXES.items():
        print(f"  {f'{prefix}:NAME':<{width}}  {summary}")
    print("algorithms")
    for name, summary in ALGORITHMS.items():
        print(f"  {name:<{width}}  {summary}")
    return 0


__all__ = ["list_all"]
