"""Our training of a task as one side; takes turns through the training loop's callback."""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from experiments.benchmarks.turns import Compilations, Turns


def resets(batch: Any, length: int) -> Callable[[], None]:
    """A function that resets all environments `length` times; every step of training does so."""
    import jax

    @jax.jit
    def roll(key: jax.Array) -> Any:
        def body(total: Any, key: jax.Array) -> tuple[Any, None]:
            state = batch.reset(key)
            return total + state.env.observation["policy"], None

        first = batch.reset(key).env.observation["policy"]
        return jax.lax.scan(body, first, jax.random.split(key, length))[0]

    return lambda: jax.block_until_ready(roll(jax.random.key(0)))


def timed(run: Callable[[], None], held: dict[str, Callable[[], None]], name: str) -> float:
    """Seconds of a run; the first one of its name only compiles."""
    if name not in held:
        run()
        held[name] = run
    start_s = time.perf_counter()
    held[name]()
    return time.perf_counter() - start_s


def main() -> None:
    """Trains, then answers "evaluate", "simulate" and "reset"."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--algorithm", default="nominal")
    parser.add_argument("--set", type=json.loads, default={}, help="settings as JSON")
    parser.add_argument("--iterations-per-turn", type=int, required=True)
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--evaluation-envs", type=int, default=128)
    options = parser.parse_args()
    turns = Turns()
    # Imported here, since the start of a process counts.
    import jax

    from experiments.benchmarks.training import simulation_side
    from hinf_rl.agents.hinf import make
    from hinf_rl.envs.batch import BatchEnv
    from hinf_rl.evaluation.disturbances import Quiet
    from hinf_rl.evaluation.rollout import evaluate
    from hinf_rl.tasks import configure, get_task
    from hinf_rl.training import loop

    compiled = Compilations()
    iterations = options.iterations_per_turn * options.turns
    config = configure(
        options.task, options.algorithm, {**options.set, "agent.iterations": iterations}
    )
    env = get_task(options.task).make_env(config.env)
    algorithm = make(config.agent, env)
    began = [time.perf_counter()]

    def take_turn(record: Mapping[str, Any]) -> None:
        turns.answer(
            seconds=time.perf_counter() - began[0],
            steps=record["env_steps"],
            compiled=compiled.summary(),
        )
        turns.wait()
        began[0] = time.perf_counter()

    result = loop.train(
        algorithm,
        iterations=iterations,
        keys=loop.seed_keys(options.seed, 1),
        log_every=options.iterations_per_turn,
        # Checkpoints would end turns; without a run there are none to keep.
        checkpoint_every=iterations,
        callbacks=(take_turn,),
    )
    turns.answer(jax=jax.__version__, nonfinite=result.summary["nonfinite_total"])
    batch = BatchEnv(env, config.agent.num_envs)
    length = config.agent.unroll_length * options.iterations_per_turn
    sides = {"simulate": simulation_side(batch, length), "reset": resets(batch, length)}
    held: dict[str, Callable[[], None]] = {}

    def evaluated() -> dict[str, Any]:
        found = evaluate(
            env,
            algorithm.policy(result.carry),
            Quiet(env.spec.disturbance.size),
            jax.random.key(1000),
            num_envs=options.evaluation_envs,
        )
        return {"return": float(found.episode_return.mean())}

    turns.serve(
        {
            "evaluate": evaluated,
            **{
                name: lambda name=name: {"seconds": timed(sides[name], held, name)}
                for name in sides
            },
        }
    )


if __name__ == "__main__":
    main()
