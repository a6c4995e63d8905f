"""Trains one of our environments with Brax's PPO, as its users would: undisturbed and pushed.

Brax 0.14.2's trainers need jax < 0.10, which this package itself does not run on in full:
`experiments.interop.run` starts this in an environment of its own.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

from hinf_rl.envs.brax_adapter import to_brax
from hinf_rl.envs.classic import CartPole, CartPoleConfig
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "brax_ppo.json"
EPISODE_LENGTH = 250


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
      is_pushed: random pushes up to the environment's limit; else none.
      asymmetric: the critic sees the push, too.
      entropy_cost: price of a policy that does not explore.
    """

    is_pushed: bool
    asymmetric: bool = False
    entropy_cost: float = 2e-2


ARMS = {
    "undisturbed": Arm(is_pushed=False),
    "pushed": Arm(is_pushed=True),
    "pushed_seen": Arm(is_pushed=True, asymmetric=True),
    "pushed_timid": Arm(is_pushed=True, entropy_cost=1e-3),
}


def train(
    arm: Arm, *, num_timesteps: int, episode_length: int, num_evals: int = 6, seed: int = 0
) -> list[dict[str, Any]]:
    """Trains the cart-pole; returns what Brax's evaluations measured, the first untrained."""
    from brax.training.agents.ppo import networks
    from brax.training.agents.ppo import train as ppo

    env = to_brax(
        CartPole(CartPoleConfig(episode_length=episode_length)),
        disturbance="random" if arm.is_pushed else "none",
        asymmetric=arm.asymmetric,
    )
    begin = time.monotonic()
    lines: list[dict[str, Any]] = []

    def progress(step: int, metrics: dict[str, Any]) -> None:
        line = {
            "env_steps": int(step),
            "wall_s": round(time.monotonic() - begin, 1),
            "return": float(metrics["eval/episode_reward"]),
            "task_return": float(metrics["eval/episode_task_reward"]),
            "length": float(metrics["eval/avg_episode_length"]),
        }
        print(json.dumps(line), flush=True)
        lines.append(line)

    keys = {"policy_obs_key": "state", "value_obs_key": "privileged_state"}
    ppo.train(
        environment=env,
        num_timesteps=num_timesteps,
        episode_length=episode_length,
        num_envs=64,
        unroll_length=32,
        batch_size=64,
        num_minibatches=4,
        num_updates_per_batch=4,
        num_evals=num_evals,
        num_eval_envs=32,
        learning_rate=1e-3,
        entropy_cost=arm.entropy_cost,
        discounting=0.99,
        # Returns of about 100 are far from where Brax's critic starts; in tenths they are not.
        reward_scaling=0.1,
        normalize_observations=True,
        network_factory=lambda *args, **kwargs: networks.make_ppo_networks(
            *args,
            policy_hidden_layer_sizes=(32, 32),
            value_hidden_layer_sizes=(32, 32),
            **kwargs,
            **(keys if arm.asymmetric else {}),
        ),
        progress_fn=progress,
        seed=seed,
    )
    return lines


def main() -> None:
    """Trains every arm on every seed, and writes after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    arms: dict[str, Any] = {}
    data = {
        "provenance": provenance(),
        "versions": {name: importlib.metadata.version(name) for name in ("brax", "jax")},
        "episode_length": EPISODE_LENGTH,
        "push_limit_n": CartPoleConfig().disturbance_limit_n,
        "arms": arms,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for name, arm in ARMS.items():
            print(f"{name}, seed {seed}", flush=True)
            found = arms.setdefault(name, {**dataclasses.asdict(arm), "seeds": []})
            found["seeds"].append(
                train(arm, num_timesteps=options.steps, episode_length=EPISODE_LENGTH, seed=seed)
            )
            write_json(options.output, data)


if __name__ == "__main__":
    main()
