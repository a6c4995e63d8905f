"""Cart-pole of gymnax under one of two trainers; runs in gymnax's environment, in turns.

A turn is the training of all seeds from beginning to end, and needs new keys for it.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.benchmarks.turns import Compilations, Turns

EVALUATED_STEPS, EVALUATED_ENVS = 500, 32
# Updates whose episodes are "the last ones".
LAST_UPDATES = 20


class Trainer(NamedTuple):
    """A side: both functions are of a key and compute all seeds."""

    train: Callable[[Any], Any]
    actor: Callable[[Any], Callable[[Any], Any]]
    """From what training leaves of one seed to a function of observations [E, O] to choices."""
    last_return: Callable[[Any], Any]
    """From what training leaves to the mean return at its end, a number per seed."""


def whole_jit(settings: Any, seeds: int) -> Trainer:
    """One jitted function of the keys."""
    import jax
    import jax.numpy as jnp

    from experiments.benchmarks.whole_jit import make_train, networks

    compiled = jax.jit(jax.vmap(make_train(settings)))
    network, _ = networks(settings, 2)
    return Trainer(
        lambda key: jax.block_until_ready(compiled(jax.random.split(key, seeds))),
        lambda trained: lambda x: jnp.argmax(network.apply(trained.actor, x), axis=-1),
        lambda trained: jnp.nanmean(trained.returns[:, -LAST_UPDATES:], axis=1),
    )


def overrides(settings: Any) -> dict[str, Any]:
    """The same settings as ours are written."""
    values = {
        f"agent.{name}": getattr(settings, name)
        for name in (
            "num_envs", "unroll_length", "num_epochs", "num_minibatches", "gamma", "gae_lambda",
            "clip_ratio",
        )
    }  # fmt: skip
    for part in ("actor", "critic"):
        values |= {
            f"agent.{part}.hidden": settings.hidden,
            f"agent.{part}.activation": "tanh",
            f"agent.{part}.learning_rate": settings.learning_rate,
            f"agent.{part}.max_grad_norm": settings.max_grad_norm,
        }
    return values | {
        "agent.iterations": settings.updates,
        "agent.actor.desired_kl": None,
        "agent.actor.entropy_cost": settings.entropy_cost,
        "agent.critic.clip_value": settings.clip_ratio,
        "agent.normalize_observations": False,
        "agent.stagger_episodes": False,
    }


def ours(settings: Any, seeds: int, order: str) -> Trainer:
    """Our algorithm, all iterations in one compiled call."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from hinf_rl.agents.hinf import make
    from hinf_rl.envs.gymnax_adapter import from_gymnax
    from hinf_rl.tasks import configure
    from hinf_rl.training.compiled import compile_call, for_seeds
    from hinf_rl.training.loop import make_init

    config = configure("gymnax:CartPole-v1", "nominal", overrides(settings))
    algorithm = make(config.agent, from_gymnax("CartPole-v1"))
    held: list[Any] = []

    @jax.jit
    def start(keys: Any) -> Any:
        return make_init(algorithm, keys)()

    def train(key: Any) -> Any:
        carry = start(jax.random.split(key, seeds))
        if not held:
            held.append(compile_call(for_seeds(algorithm.step, order, None), carry))
        return jax.block_until_ready(held[0].call(carry, np.int32(settings.updates)))[0]

    def actor(carry: Any) -> Callable[[Any], Any]:
        policy = algorithm.policy(carry)
        return lambda x: jnp.argmax(jnp.clip(policy({"policy": x}), -1.0, 1.0), axis=-1)

    return Trainer(train, actor, lambda carry: carry.last_episodes[:, 0])


def play(actor: Callable[[Any], Any], key: Any) -> Any:
    """Mean return of one episode in each of several environments."""
    import gymnax
    import jax
    import jax.numpy as jnp

    env, params = gymnax.make("CartPole-v1")

    def body(carry: Any, key: Any) -> tuple[Any, None]:
        state, observation, alive, total = carry
        keys = jax.random.split(key, EVALUATED_ENVS)
        observation, state, reward, terminated, _ = jax.vmap(env.step_env, in_axes=(0, 0, 0, None))(
            keys, state, actor(observation), params
        )
        return (state, observation, alive & ~terminated, total + alive * reward), None

    key_reset, key_steps = jax.random.split(key)
    observation, state = jax.vmap(env.reset_env, in_axes=(0, None))(
        jax.random.split(key_reset, EVALUATED_ENVS), params
    )
    # Types that a step gives the state.
    state = jax.tree.map(jnp.asarray, state)
    state = state.replace(time=jnp.zeros(EVALUATED_ENVS, jnp.int32))
    start = (state, observation, jnp.ones(EVALUATED_ENVS, bool), jnp.zeros(EVALUATED_ENVS))
    return jax.lax.scan(body, start, jax.random.split(key_steps, EVALUATED_STEPS))[0][3].mean()


def simulation(settings: Any, seeds: int) -> Callable[[], Any]:
    """As many steps of all environments under random choices, in gymnax alone."""
    import gymnax
    import jax

    env, params = gymnax.make("CartPole-v1")
    total = seeds * settings.num_envs

    @jax.jit
    def roll(key: Any) -> Any:
        def body(carry: Any, key: Any) -> tuple[Any, None]:
            state, sum_ = carry
            key_step, key_action = jax.random.split(key)
            action = jax.random.randint(key_action, (total,), 0, 2)
            keys = jax.random.split(key_step, total)
            _, state, reward, *_ = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
                keys, state, action, params
            )
            return (state, sum_ + reward), None

        keys = jax.random.split(key, total)
        _, state = jax.vmap(env.reset, in_axes=(0, None))(keys, params)
        length = settings.unroll_length * settings.updates
        start = (state, jax.numpy.zeros(total))
        return jax.lax.scan(body, start, jax.random.split(key, length))[0][1]

    return lambda: jax.block_until_ready(roll(jax.random.key(0)))


def main() -> None:
    """Trains once, then answers "turn", "evaluate", "simulate" and "double"."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainer", choices=["ours", "whole_jit"], required=True)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--updates", type=int, required=True)
    parser.add_argument("--order", choices=["vmapped", "sequential"], default="vmapped")
    options = parser.parse_args()
    turns = Turns()
    # Imported here, since the start of a process counts.
    import jax

    from experiments.benchmarks.whole_jit import Settings

    compiled = Compilations()
    settings = dataclasses.replace(Settings(), updates=options.updates)

    def made(settings: Any) -> Trainer:
        if options.trainer == "ours":
            return ours(settings, options.seeds, options.order)
        return whole_jit(settings, options.seeds)

    trainer = made(settings)
    key, count, held = jax.random.key(0), 0, {}

    def turn() -> dict[str, Any]:
        nonlocal count
        start_s = time.perf_counter()
        held["trained"] = trainer.train(jax.random.fold_in(key, count))
        count += 1
        return {"seconds": time.perf_counter() - start_s, "compiled": compiled.summary()}

    def evaluated() -> dict[str, Any]:
        trained = held["trained"]
        greedy = jax.jit(
            lambda trained: jax.lax.map(
                lambda one: play(trainer.actor(one), jax.random.key(1000)), trained
            )
        )
        return {
            "return": [float(x) for x in greedy(trained)],
            "training_return": [float(x) for x in trainer.last_return(trained)],
        }

    def simulated() -> dict[str, Any]:
        if "simulation" not in held:
            held["simulation"] = simulation(settings, options.seeds)
            held["simulation"]()
        start_s = time.perf_counter()
        held["simulation"]()
        return {"seconds": time.perf_counter() - start_s}

    def doubled() -> dict[str, Any]:
        """With twice the epochs: what they add is what the learner takes."""
        if "double" not in held:
            held["double"] = made(dataclasses.replace(settings, num_epochs=2 * settings.num_epochs))
            held["double"].train(key)
        start_s = time.perf_counter()
        held["double"].train(key)
        return {"seconds": time.perf_counter() - start_s}

    turns.answer(**turn(), steps=settings.steps * options.seeds, jax=jax.__version__)
    turns.serve({"turn": turn, "evaluate": evaluated, "simulate": simulated, "double": doubled})


if __name__ == "__main__":
    main()
