"""MJX in a process of its own, which steps whenever it is sent a line.

XLA's scheduler for the CPU deadlocks in MJX's batched loops within a few calls (jaxlib 0.10.2:
every thread waits). Its flag is read once in a process, and single-threaded, the other cure, MJX
is slower: so MJX runs here, with the scheduler off, and its times include the two lines.
"""

import argparse
import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

SCHEDULER_OFF = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


@contextlib.contextmanager
def mjx_side(num_envs: int, control_steps: int) -> Iterator[Callable[[], None]]:
    """A run of MJX's own step of all rows inside a compiled scan, ready when it is handed out."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {SCHEDULER_OFF}".strip()
    command = [sys.executable, "-m", "experiments.benchmarks.mjx"]
    sizes = ["--num-envs", str(num_envs), "--steps", str(control_steps)]
    with subprocess.Popen(
        [*command, *sizes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**os.environ, "XLA_FLAGS": flags},
    ) as worker:
        send, answers = worker.stdin, worker.stdout
        assert send is not None and answers is not None

        def run() -> None:
            send.write("step\n")
            if answers.readline() != "done\n":
                raise RuntimeError("the process of MJX ended; its error is printed above")

        yield run
        send.close()


def main() -> None:
    """Answers each line with "done" after one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()
    run = _compiled(options.num_envs, options.steps)
    for _ in sys.stdin:
        run()
        print("done", flush=True)


def _compiled(num_envs: int, control_steps: int) -> Callable[[], None]:
    # Imported here: whoever only starts the process needs neither.
    import jax

    from experiments.benchmarks import physics
    from hinf_rl.envs.physics.mjx import import_mjx

    model = physics.make_model()
    mjx = import_mjx()
    compiled_model = mjx.put_model(model, impl="jax")
    data = mjx.make_data(model, impl="jax")
    step = jax.vmap(functools.partial(mjx.step, compiled_model))

    @jax.jit
    def roll(start: physics.Start, control: jax.Array) -> Any:
        states = jax.vmap(lambda s: data.replace(qpos=s[0], qvel=s[1], qacc_warmstart=s[2]))(start)

        def body(states: Any, target: jax.Array) -> tuple[Any, None]:
            states = states.replace(ctrl=target)
            return jax.lax.fori_loop(0, physics.SUBSTEPS, lambda _, s: step(s), states), None

        return jax.lax.scan(body, states, control)[0].qpos

    targets = physics.targets(control_steps, num_envs)
    arguments = jax.device_put((physics.settle(model, num_envs), targets))
    return lambda: jax.block_until_ready(roll(*arguments))


if __name__ == "__main__":
    main()
