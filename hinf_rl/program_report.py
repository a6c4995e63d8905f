"""Evaluation of a B-Coder run: how well it samples, how well it ranks, and programs to read."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from hinf_rl.agents.bcoder import RANKERS, BCoderConfig, Carry, Prompts, make_scores, rank_programs
from hinf_rl.agents.bcoder.evaluate import (
    Candidates,
    draw_candidates,
    ranker_report,
    sampler_report,
    score_candidates,
)
from hinf_rl.errors import UserError
from hinf_rl.language.tasks import ProblemSet
from hinf_rl.program_tasks import ProgramConfig, judge, on_device, problem_data, prompts_of
from hinf_rl.types import Array

TEMPERATURE = 0.6
"""Of the samples."""
CANDIDATES = 24
"""Programs sampled for each problem."""
_SHOWN_PROBLEMS = 4
_SHOWN_PROGRAMS = 5
_OUTCOMES = {1.0: "passes", -0.3: "fails a test", -0.6: "runtime error", -1.0: "does not compile"}


class Evaluator:
    """Compiled parts of the evaluation of one configuration; seeds share them."""

    def __init__(self, task: ProgramConfig, agent: BCoderConfig) -> None:
        self._task = task
        self._judge = jax.jit(functools.partial(judge, task))
        self._scores = jax.jit(make_scores(agent, task.transformer))

    def candidates(
        self,
        variables: Any,
        problems: ProblemSet,
        per_problem: int,
        key: Array,
        temperature: float = TEMPERATURE,
    ) -> Candidates:
        """Samples programs of every problem and has them tested."""
        problems = on_device(problems)
        return draw_candidates(
            self._task.transformer,
            self._task.sampling(temperature),
            variables,
            self._prompts(problems),
            per_problem,
            key,
            functools.partial(self._judge, problems),
        )

    def scores(
        self, carry: Carry, problems: ProblemSet, candidates: Candidates
    ) -> dict[str, NDArray[np.float32]]:
        """[N, m] scores by ranker."""
        prompts = self._prompts(on_device(problems))
        return score_candidates(self._scores, carry, prompts, candidates)

    def _prompts(self, problems: ProblemSet) -> Prompts:
        return prompts_of(self._task, problems)


def evaluate_carry(
    task: ProgramConfig,
    agent: BCoderConfig,
    carry: Carry,
    *,
    seed: int = 0,
    per_problem: int = CANDIDATES,
) -> tuple[dict[str, Any], Candidates, dict[str, NDArray[np.float32]]]:
    """Measures one trained member on problems that it has not seen.

    Args:
      task: the task's settings.
      agent: the agent's.
      carry: of one member.
      seed: of the sampling.
      per_problem: candidates of each problem.

    Returns:
      the results (JSON values), the policy's candidates and their scores.
    """
    unseen = problem_data(task).unseen
    evaluator = Evaluator(task, agent)
    key_reference, key_policy = jax.random.split(jax.random.key(seed))
    before = evaluator.candidates(carry.reference, unseen, per_problem, key_reference)
    own = evaluator.candidates(carry.policy.transformer, unseen, per_problem, key_policy)
    scores = evaluator.scores(carry, unseen, own)
    results = {
        "reference": sampler_report(before),
        "policy": sampler_report(own),
        "rankers": ranker_report(scores, own),
        "rankers_on_reference": ranker_report(evaluator.scores(carry, unseen, before), before),
    }
    return results, own, scores


def evaluate(run: Path, *, quick: bool = False, baseline: Path | None = None) -> Path:
    """Evaluates a run and writes `report/report.md` and `report/results.json` in it.

    Args:
      run: the run directory.
      quick: sample a third of the candidates.
      baseline: must be None; the pre-trained model is always shown beside the fine-tuned one.

    Returns:
      the report.

    Raises:
      UserError: something is missing or damaged; the message says what.
    """
    if baseline is not None:
        raise UserError(
            "--baseline compares robustness; a program task is always compared with its own "
            "pre-trained model: leave the option out"
        )
    from hinf_rl.training import files
    from hinf_rl.training.checkpoint import select_seed
    from hinf_rl.training.run_directory import RunDirectory, load_run

    config, _, carry = load_run(run)
    members = [carry] if config.seeds == 1 else [select_seed(carry, i) for i in range(config.seeds)]
    per_problem = CANDIDATES // 3 if quick else CANDIDATES
    evaluated = [
        evaluate_carry(config.env, config.agent, member, per_problem=per_problem)
        for member in members
    ]
    folder = RunDirectory(run).report
    folder.mkdir(exist_ok=True)
    results = {
        "task": config.task,
        "algorithm": config.algorithm,
        "per_problem": per_problem,
        "seeds": [results for results, _, _ in evaluated],
    }
    files.write_json(folder / "results.json", results)
    _, own, scores = evaluated[0]
    text = report_text(results, config.env, own, scores)
    files.write_atomic(folder / "report.md", text)
    return folder / "report.md"


def report_text(
    results: Mapping[str, Any],
    task: ProgramConfig,
    candidates: Candidates,
    scores: Mapping[str, NDArray[np.floating]],
) -> str:
    """The report in Markdown.

    Args:
      results: `task`, `algorithm`, `per_problem`, and `seeds` of `evaluate_carry`.
      task: the task's settings.
      candidates: programs of the first seed's policy.
      scores: of the candidates, [N, m] by ranker.
    """
    return "\n".join(
        [
            f"# {results['task']}: {results['algorithm']}",
            "",
            f"{task.unseen_problems} problems that training has not seen, "
            f"{results['per_problem']} programs each, temperature {TEMPERATURE:g}; mean over "
            f"{len(results['seeds'])} seed(s).",
            "",
            *_sampler_table(results["seeds"]),
            "",
            *_ranker_table(results["seeds"]),
            "",
            *_readable(task, candidates, scores),
            "",
        ]
    )


def _sampler_table(seeds: list[dict[str, Any]]) -> Iterator[str]:
    yield "| sampler, nothing ranked | pass@1 | pass@5 | mean reward |"
    yield "|---|---|---|---|"
    for name, title in (("reference", "pre-trained"), ("policy", "fine-tuned")):
        row = [_mean(seeds, name, key) for key in ("pass@1", "pass@5", "mean_outcome")]
        yield f"| {title} | " + " | ".join(f"{value:.3f}" for value in row) + " |"


def _ranker_table(seeds: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        "| ranker | top 1, its own programs | best 5 distinct | AUC within a problem | top 1, "
        "programs of the pre-trained model | AUC |"
    )
    yield "|---|---|---|---|---|---|"
    for name in seeds[0]["rankers"]:
        keys = [("rankers", key) for key in ("top@1", "distinct@5", "auc")]
        keys += [("rankers_on_reference", key) for key in ("top@1", "auc")]
        row = [_mean(seeds, group, name, key) for group, key in keys]
        title = RANKERS.get(name, "random choice")
        yield f"| {title} | " + " | ".join(f"{value:.3f}" for value in row) + " |"


def _readable(
    task: ProgramConfig, candidates: Candidates, scores: Mapping[str, NDArray[np.floating]]
) -> Iterator[str]:
    """A few problems with their best distinct programs, as one reads them."""
    ranker = "reward" if "reward" in scores else "log_prob"
    chosen = rank_programs(scores[ranker], candidates.tokens, _SHOWN_PROGRAMS)
    vocabulary, prompts = task.task.vocabulary, problem_data(task).unseen.prompts
    yield f"## Programs of the first seed, ranked by {RANKERS[ranker]}"
    for problem in range(min(_SHOWN_PROBLEMS, len(prompts))):
        yield ""
        text = vocabulary.decode([token for token in prompts[problem] if token > vocabulary.eos_id])
        yield f"`{text}`"
        yield ""
        yield "| score | program | tests |"
        yield "|---|---|---|"
        for candidate in chosen[problem]:
            program = vocabulary.decode(candidates.tokens[problem, candidate].tolist())
            outcome = round(float(candidates.outcome[problem, candidate]), 3)
            score = scores[ranker][problem, candidate]
            yield f"| {score:.3f} | `{program}` | {_OUTCOMES[outcome]} |"


def _mean(seeds: list[dict[str, Any]], *path: str) -> float:
    values = []
    for results in seeds:
        value: Any = results
        for key in path:
            value = value[key]
        values.append(value)
    return float(np.mean(values))


__all__ = ["CANDIDATES", "TEMPERATURE", "Evaluator", "evaluate", "evaluate_carry", "report_text"]
