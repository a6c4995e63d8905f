"""B-Coder on small programming languages: pre-trained checkpoint, data, training, report.

Beside `tasks` the one place that knows token tasks and agents both. The reference model is
pre-trained on noisy programs with systematic bugs when a run starts; its samples and a few human
programs are all that the agent then learns from.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.bcoder import (
    ALGORITHMS,
    BCoderConfig,
    Corpus,
    Hyperparameters,
    Material,
    Programs,
    Prompts,
    apply_algorithm,
    draw_programs,
    hyperparameters,
    make,
    pretrain,
)
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.language.generation import SamplingConfig
from hinf_rl.language.tasks import ListMachine, ProblemSet, StackMachine
from hinf_rl.networks.transformer import Transformer
from hinf_rl.networks.transformer_config import TransformerConfig
from hinf_rl.types import Array, PyTree
from hinf_rl.workload import Task, Workload

MACHINES = {machine.name: machine for machine in (StackMachine(), ListMachine())}
"""The small languages by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramConfig:
    """A small programming language, a checkpoint with systematic bugs, and the data of it.

    Attributes:
      machine: "stack_machine" or "list_machine".
      problem_seed: of problems and programs.
      checkpoint_problems, noisy_per_problem: what the checkpoint is pre-trained on.
      pretrain_steps, pretrain_batch_size, pretrain_learning_rate: of its cross-entropy.
      train_problems, samples_per_problem, human_per_problem: what the agent learns from.
      human_problems: training problems that have human programs; none for all.
      unseen_problems: what it is evaluated on beside them.
      num_layers, hidden_size, num_heads, ff_size: of the transformer.
    """

    machine: str = "stack_machine"
    problem_seed: int = 0
    checkpoint_problems: int = 5000
    noisy_per_problem: int = 8
    pretrain_steps: int = 2500
    pretrain_batch_size: int = 64
    pretrain_learning_rate: float = 2e-3
    train_problems: int = 200
    samples_per_problem: int = 24
    human_per_problem: int = 4
    human_problems: int | None = None
    unseen_problems: int = 100
    num_layers: int = 2
    hidden_size: int = 64
    num_heads: int = 4
    ff_size: int = 168  # three matrices: as many parameters as two of width 256

    def __post_init__(self) -> None:
        if self.machine not in MACHINES:
            raise unknown_name("machine", self.machine, MACHINES)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "problem_seed" else 1
            if field.type is int and value < least:
                raise UserError(f"{field.name} must be at least {least}, got {value}")
        if not 0.0 < self.pretrain_learning_rate < float("inf"):
            raise UserError(
                f"pretrain_learning_rate must be positive, got {self.pretrain_learning_rate}"
            )
        if self.human_problems is not None and not 1 <= self.human_problems <= self.train_problems:
            raise UserError(
                f"human_problems must lie in [1, train_problems = {self.train_problems}] or be "
                f"none, got {self.human_problems}"
            )
        self.transformer  # noqa: B018 its sizes are checked

    @property
    def task(self) -> Any:
        """The language and its interpreter."""
        return MACHINES[self.machine]

    @property
    def transformer(self) -> Transformer:
        """Architecture of checkpoint, value and policy."""
        task = self.task
        return Transformer(
            TransformerConfig(
                vocab_size=task.vocabulary.size,
                num_layers=self.num_layers,
                hidden_size=self.hidden_size,
                num_heads=self.num_heads,
                ff_size=self.ff_size,
                max_length=task.prompt_length + task.program_length,
                positions="learned",
            )
        )

    def sampling(self, temperature: float = 1.0) -> SamplingConfig:
        """How programs are drawn."""
        vocabulary = self.task.vocabulary
        return SamplingConfig(
            max_new_tokens=self.task.program_length,
            stop_ids=(vocabulary.eos_id,),
            pad_id=vocabulary.pad_id,
            temperature=temperature,
        )


class ProblemData(NamedTuple):
    """What the host makes: problems and programs, arrays throughout.

    Attributes:
      corpus: what the checkpoint is pre-trained on.
      train, unseen: problems with their hidden tests.
      human: programs of the training problems.
    """

    corpus: Corpus
    train: ProblemSet
    unseen: ProblemSet
    human: Programs


@functools.lru_cache(maxsize=4)
def problem_data(config: ProgramConfig) -> ProblemData:
    """Makes the problems of a configuration, on the host."""
    task, seed = config.task, config.problem_seed
    counts = [config.checkpoint_problems, config.train_problems, config.unseen_problems]
    checkpoint, train, unseen = task.problems(seed=seed, counts=counts)
    noisy = task.noisy_programs(checkpoint, seed=seed + 1, per_problem=config.noisy_per_problem)
    human = task.human_programs(train, seed=seed + 2, per_problem=config.human_per_problem)
    human = human[: config.human_problems]
    corpus = Corpus(prompts_of(config, checkpoint), _programs(config, noisy))
    return ProblemData(corpus, train, unseen, _programs(config, human))


def prompts_of(config: ProgramConfig, problems: ProblemSet) -> Prompts:
    """The problems' texts as left-padded prompts."""
    tokens: Any = problems.prompts  # of NumPy or of JAX, as the problems are
    return Prompts(tokens, tokens != config.task.vocabulary.pad_id)


def make_reference(config: ProgramConfig, corpus: Corpus, key: Array) -> tuple[PyTree, Array]:
    """Pre-trains the checkpoint; returns its variables and [pretrain_steps] losses; traced."""
    return pretrain(
        config.transformer,
        corpus,
        key,
        steps=config.pretrain_steps,
        batch_size=config.pretrain_batch_size,
        learning_rate=config.pretrain_learning_rate,
    )


def collect(
    config: ProgramConfig, reference: PyTree, train: ProblemSet, human: Programs, key: Array
) -> Material:
    """Samples the checkpoint on the training problems and has its programs tested; traced.

    Args:
      config: the task.
      reference: variables of the checkpoint.
      train: the training problems.
      human: programs known to be right.
      key: PRNG key.
    """
    prompts = prompts_of(config, train)
    each = config.samples_per_problem
    problem = jnp.repeat(jnp.arange(config.train_problems, dtype=jnp.int32), each)
    tokens, mask = draw_programs(
        config.transformer, config.sampling(), reference, prompts, problem, key
    )
    outcome = judge(config, train, problem, tokens)
    return Material(
        reference=reference,
        prompts=prompts,
        human=human,
        generated=Programs(problem, tokens, mask, outcome),
        tests=train,
    )


def judge(config: ProgramConfig, tests: ProblemSet, problem: Array, tokens: Array) -> Array:
    """[B] rewards of the unit tests of some programs; traced."""
    return config.task.verify(tests, tokens, problem).reward


class ProgramSource:
    """Problems and programs of a configuration, as the agent wants them."""

    def __init__(self, config: ProgramConfig) -> None:
        self._config = config

    @property
    def transformer(self) -> Transformer:
        """The architecture of the checkpoint."""
        return self._config.transformer

    @property
    def sampling(self) -> SamplingConfig:
        """How new programs are drawn in training."""
        return self._config.sampling()

    @property
    def judge(self) -> Callable[[PyTree, Array, Array], Array]:
        """The unit tests."""
        return functools.partial(judge, self._config)

    def material(self, key: Array) -> Material:
        """Pre-trains the checkpoint from `key` and samples it."""
        key_reference, key_samples = jax.random.split(key)
        # Made by running programs, which must not become a part of what is traced.
        with jax.ensure_compile_time_eval():
            data = problem_data(self._config)
        data = on_device(data)
        reference, _ = make_reference(self._config, data.corpus, key_reference)
        return collect(self._config, reference, data.train, data.human, key_samples)


def on_device(tree: PyTree) -> Any:
    """The same arrays, as JAX's."""
    return jax.tree.map(jnp.asarray, tree)


def _make_algorithm(task: Task, env_config: ProgramConfig, agent_config: BCoderConfig) -> Algorithm:
    return make(agent_config, task.make_env(env_config))


def _hyperparameters(
    task: Task, env_config: ProgramConfig, agent_config: BCoderConfig
) -> Hyperparameters:
    return hyperparameters(agent_config)


def _evaluate(run: Path, *, quick: bool, baseline: Path | None) -> Path:
    # It reads the tasks in its turn.
    from hinf_rl.program_report import evaluate

    return evaluate(run, quick=quick, baseline=baseline)


PROGRAM_SYNTHESIS = Workload(
    name="program synthesis",
    algorithms=ALGORITHMS,
    default_algorithm="bcoder",
    apply_algorithm=apply_algorithm,
    make_algorithm=_make_algorithm,
    evaluate=_evaluate,
    batched=tuple(f"agent.{name}" for name in Hyperparameters._fields),
    hyperparameters=_hyperparameters,
)
"""Value-based training on stored programs, and how well it samples and ranks."""

_AGENT = BCoderConfig()
PROGRAM_TASKS = tuple(
    Task(
        name=name,
        summary=summary,
        workload=PROGRAM_SYNTHESIS,
        env_config=ProgramConfig(machine=machine),
        make_env=ProgramSource,
        agent_config=_AGENT,
        log_every=20,
        tags=("tokens", "pure JAX"),
    )
    for name, machine, summary in (
        (
            "bcoder-dsl",
            "stack_machine",
            "infix expressions to postfix programs, from a checkpoint full of bugs",
        ),
        ("bcoder-lists", "list_machine", "programs on lists, from a checkpoint full of bugs"),
    )
)
"""The tasks of program synthesis."""


def _programs(config: ProgramConfig, tokens: np.ndarray) -> Programs:
    """Programs [N, M, T] of N problems one after the other; what they earn is not known."""
    count, each, length = tokens.shape
    flat: Any = tokens.reshape(-1, length).astype(np.int32)
    is_end = (flat == config.task.vocabulary.eos_id).astype(np.int32)
    mask = np.cumsum(is_end, axis=-1) - is_end == 0
    problem: Any = np.repeat(np.arange(count, dtype=np.int32), each)
    outcome: Any = np.ones(len(flat), np.float32)
    return Programs(problem, flat, mask, outcome)


__all__ = [
    "MACHINES",
    "PROGRAM_SYNTHESIS",
    "PROGRAM_TASKS",
    "ProblemData",
    "ProgramConfig",
    "ProgramSource",
    "collect",
    "judge",
    "make_reference",
    "on_device",
    "problem_data",
    "prompts_of",
]
