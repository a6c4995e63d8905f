"""Brax's PPO as one side; runs in Brax's environment, takes turns through Brax's own callback.

Nothing of Brax is changed: `policy_params_fn` is called after every epoch, and waits there until
it is this side's turn again. Evaluations between epochs are off.
"""

import argparse
import functools
import time
from typing import Any

from experiments.benchmarks.ppo_settings import Settings, from_text
from experiments.benchmarks.turns import Compilations, Turns


def train(settings: Settings, seed: int, turns: Turns, compiled: Compilations) -> tuple[Any, ...]:
    """Trains and returns (environment, make_policy, params)."""
    import flax.linen as nn
    from brax import envs
    from brax.training.agents.ppo import networks
    from brax.training.agents.ppo import train as ppo

    env = envs.get_environment(settings.environment, backend=settings.backend)
    began = [time.perf_counter()]

    def take_turn(step: int, make_policy: Any, params: Any) -> None:
        del make_policy, params
        # Brax calls before it trains, too.
        if step == 0:
            return
        turns.answer(
            seconds=time.perf_counter() - began[0], steps=step, compiled=compiled.summary()
        )
        turns.wait()
        began[0] = time.perf_counter()

    make_policy, params, _ = ppo.train(
        environment=env,
        num_timesteps=settings.steps_per_turn * settings.turns,
        num_evals=settings.turns + 1,
        run_evals=False,
        episode_length=settings.episode_length,
        num_envs=settings.num_envs,
        unroll_length=settings.unroll_length,
        batch_size=settings.num_envs // settings.num_minibatches,
        num_minibatches=settings.num_minibatches,
        num_updates_per_batch=settings.num_epochs,
        learning_rate=settings.learning_rate,
        entropy_cost=settings.entropy_cost,
        discounting=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clipping_epsilon=settings.clip_ratio,
        max_grad_norm=1.0,
        # Returns of about 100 are far from where its critic starts; in tenths they are not.
        reward_scaling=0.1,
        normalize_observations=True,
        network_factory=functools.partial(
            networks.make_ppo_networks,
            policy_hidden_layer_sizes=settings.hidden,
            value_hidden_layer_sizes=settings.hidden,
            activation=nn.tanh,
        ),
        policy_params_fn=take_turn,
        seed=seed,
    )
    return env, make_policy, params


def simulation(settings: Settings, env: Any) -> Any:
    """A function that takes the steps of one turn under random actions, as training does."""
    import jax
    from brax import envs

    wrapped = envs.training.wrap(env, episode_length=settings.episode_length)
    shape = (settings.num_envs, env.action_size)

    @jax.jit
    def roll(state: Any, key: jax.Array) -> Any:
        def body(state: Any, key: jax.Array) -> tuple[Any, None]:
            return wrapped.step(state, jax.random.normal(key, shape)), None

        length = settings.unroll_length * settings.iterations_per_turn
        return jax.lax.scan(body, state, jax.random.split(key, length))[0]

    keys = jax.random.split(jax.random.PRNGKey(0), settings.num_envs)
    start = jax.jit(wrapped.reset)(keys)
    # The first step adds to the dictionaries of the state, which a scan must find there.
    start = jax.jit(wrapped.step)(start, jax.numpy.zeros(shape))
    roll(start, jax.random.PRNGKey(1))
    return lambda: jax.block_until_ready(roll(start, jax.random.PRNGKey(1)))


def evaluation(settings: Settings, env: Any, make_policy: Any, params: Any) -> dict[str, Any]:
    """Mean return of one episode in each environment under the policy's mode."""
    import jax
    from brax import envs
    from brax.training import acting

    evaluator = acting.Evaluator(
        envs.training.wrap(env, episode_length=settings.episode_length),
        functools.partial(make_policy, deterministic=True),
        num_eval_envs=settings.evaluation_envs,
        episode_length=settings.episode_length,
        action_repeat=1,
        key=jax.random.PRNGKey(1000),
    )
    return {"return": float(evaluator.run_evaluation(params, {})["eval/episode_reward"])}


def main() -> None:
    """Trains, then answers "evaluate" and "simulate"."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=from_text, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    turns = Turns()
    # Imported here, since the start of a process counts.
    import importlib.metadata

    import jax

    compiled = Compilations()
    env, make_policy, params = train(options.settings, options.seed, turns, compiled)
    turns.answer(jax=jax.__version__, brax=importlib.metadata.version("brax"))
    held: list[Any] = []

    def simulate() -> dict[str, Any]:
        if not held:
            held.append(simulation(options.settings, env))
        start_s = time.perf_counter()
        held[0]()
        return {"seconds": time.perf_counter() - start_s}

    turns.serve(
        {
            "simulate": simulate,
            "evaluate": lambda: evaluation(options.settings, env, make_policy, params),
        }
    )


if __name__ == "__main__":
    main()
