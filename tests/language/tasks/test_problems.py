"""Problems, their splits, and the programs that models learn from."""

import functools

import jax
import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.language.tasks import ListMachine, Noise, ResultClass, StackMachine
from hinf_rl.language.tasks.expressions import canonical, from_postfix, infix, postfix


@functools.partial(jax.jit, static_argnums=0)
def verify(task, problems, programs, ids):
    return task.verify(problems, programs, ids)


def statuses(task, problems, programs):
    """Classes [N, M] of programs [N, M, Lc]."""
    num, per_problem, length = programs.shape
    ids = np.repeat(np.arange(num, dtype=np.int32), per_problem)
    verdict = verify(task, problems, programs.reshape(-1, length), ids)
    return np.asarray(verdict.status).reshape(num, per_problem)


def expression(task, solution):
    return from_postfix(task.grammar, task.vocabulary.decode(solution).split())


def test_shapes_are_those_promised(task, problem_sets):
    assert task.vocabulary.size == 16
    assert [len(problems.prompts) for problems in problem_sets] == [60, 12]
    for problems in problem_sets:
        assert problems.prompts.shape[1:] == (18,)
        assert problems.solutions.shape[1:] == (12,)
        assert problems.inputs.shape[1] == problems.outputs.shape[1] == 8
        assert {array.dtype for array in problems} == {np.dtype(np.int32)}


def test_prompts_are_padded_on_the_left_and_say_the_solution(task, problem_sets):
    vocabulary = task.vocabulary
    for prompt, solution in zip(problem_sets[0].prompts, problem_sets[0].solutions, strict=True):
        start = int(np.argmax(prompt != vocabulary.pad_id))
        assert prompt[start] == vocabulary.bos_id and prompt[-1] == vocabulary.sep_id
        words = vocabulary.decode(prompt[start + 1 : -1]).split()
        assert words == infix(task.grammar, expression(task, solution))


def test_solutions_pass_and_outputs_differ(task, problem_sets):
    for problems in problem_sets:
        assert np.all(statuses(task, problems, problems.solutions[:, None]) == ResultClass.PASS)
        for outputs in problems.outputs:
            assert len({output.tobytes() for output in outputs}) >= 3


def test_splits_share_no_problem_up_to_commutation(task):
    sets = task.problems(3, (300, 100, 50))
    keys = [
        {canonical(task.grammar, expression(task, solution)) for solution in problems.solutions}
        for problems in sets
    ]
    assert [len(part) for part in keys] == [300, 100, 50]
    assert len(set.union(*keys)) == 450


def test_problems_depend_on_the_seed_only(task, problem_sets):
    again = task.problems(0, (60, 12))
    for one, other in zip(jax.tree.leaves(problem_sets), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    other_seed = task.problems(1, (60,))[0]
    assert not np.array_equal(other_seed.prompts, problem_sets[0].prompts)


def test_asking_for_more_problems_than_there_are_ends_with_their_number():
    class Sums(StackMachine):
        def draw_expression(self, generator):
            return ("+", *((str(name),) for name in generator.choice(["a", "b", "1"], 2)))

    # a + a, a + b, a + 1, b + b, b + 1; 1 + 1 has one output only.
    assert len(Sums().problems(0, (5,))[0].prompts) == 5
    with pytest.raises(UserError, match="no more than 5 that differ"):
        Sums().problems(0, (4, 2))


def test_human_programs_are_correct_and_distinct_while_they_can_be(task, problem_sets):
    problems = problem_sets[0]
    programs = task.human_programs(problems, 5, 4)
    assert programs.shape == (60, 4, 12)
    assert np.all(statuses(task, problems, programs) == ResultClass.PASS)
    for rows, solution in zip(programs, problems.solutions, strict=True):
        available = num_commutations(task.grammar, expression(task, solution))
        assert len(np.unique(rows, axis=0)) == min(4, available)


def num_commutations(grammar, tree):
    """Counts without listing: exchanging operands is new unless they are equal already."""
    symbol, *operands = tree
    count = int(np.prod([num_commutations(grammar, operand) for operand in operands]))
    if symbol in grammar.commutative:
        left, right = (canonical(grammar, operand) for operand in operands)
        count *= 1 + (left != right)
    return count


def test_noise_makes_the_bugs_that_it_says():
    # '-' exchanged with probability 1 and nothing else: b - a where a - b was asked.
    task = StackMachine()
    problems = task.problems(0, (200,))[0]
    minus = task.vocabulary.symbols.index("-")
    has_minus = np.any(problems.solutions == minus, axis=1)
    always = Noise(exchange={"-": 1.0}, edit=0.0)
    programs = _with_noise(always, task, problems)
    changed = np.any(programs[:, 0] != problems.solutions, axis=1)
    assert not np.any(changed & ~has_minus)
    assert np.mean(changed[has_minus]) > 0.9  # the rest subtracts equal expressions
    assert np.mean(statuses(task, problems, programs)[has_minus] != ResultClass.PASS) > 0.8
    never = Noise(exchange={}, edit=0.0)
    np.testing.assert_array_equal(_with_noise(never, task, problems)[:, 0], problems.solutions)


def _with_noise(noise, task, problems):
    """One program per problem under other noise than the task's own."""
    noisy_task = type("Noisy", (type(task),), {"noise": noise})()
    return noisy_task.noisy_programs(problems, 0, 1)


def test_edits_are_as_frequent_as_stated():
    task = StackMachine()
    problems = task.problems(0, (400,))[0]
    programs = _with_noise(Noise(exchange={}, edit=0.15), task, problems)
    changed = np.mean(np.any(programs[:, 0] != problems.solutions, axis=1))
    # 400 draws: standard deviation 0.018; one edit in 36 puts back the same token.
    assert 0.08 < changed < 0.21


def test_noisy_programs_show_all_classes(task, problem_sets):
    programs = task.noisy_programs(problem_sets[0], 4, 8)
    assert programs.shape == (60, 8, 12) and programs.dtype == np.int32
    classes = np.bincount(statuses(task, problem_sets[0], programs).ravel(), minlength=4)
    assert np.all(classes > 0)
    # Half of the bugs cancel or do not show; most of the rest are wrong results, not noise.
    assert 0.2 < classes[ResultClass.PASS] / classes.sum() < 0.8
    again = task.noisy_programs(problem_sets[0], 4, 8)
    np.testing.assert_array_equal(programs, again)


def test_an_expression_is_read_back_from_its_program():
    task = ListMachine()
    for solution in task.problems(2, (50,))[0].solutions:
        tree = expression(task, solution)
        assert task.vocabulary.encode(postfix(tree)) == [int(t) for t in solution if t > 3]


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (("-", ("-", ("a",), ("b",)), ("c",)), "a - b - c"),
        (("-", ("a",), ("-", ("b",), ("c",))), "a - ( b - c )"),
        (("*", ("+", ("a",), ("1",)), ("b",)), "( a + 1 ) * b"),
        (("+", ("a",), ("*", ("b",), ("c",))), "a + b * c"),
        (("/", ("a",), ("*", ("b",), ("c",))), "a / ( b * c )"),
    ],
)
def test_brackets_are_few(tree, text):
    assert infix(StackMachine.grammar, tree) == text.split()


def test_infix_means_the_same_tree_as_python_reads(problem_sets, task):
    # Python's own parser is the oracle of the brackets; lists have no Python syntax.
    if task.name != "stack_machine":
        return
    for problems in problem_sets:
        for index, solution in enumerate(problems.solutions):
            text = " ".join(infix(task.grammar, expression(task, solution)))
            for given, expected in zip(
                problems.inputs[index].tolist(), problems.outputs[index].tolist(), strict=True
            ):
                names = dict(zip("abc", given, strict=True))
                assert eval(text.replace("/", "//"), {}, names) == expected


def test_bad_settings_are_named():
    task = StackMachine()
    with pytest.raises(UserError, match="num_tests"):
        StackMachine(num_tests=2)
    with pytest.raises(UserError, match="counts"):
        task.problems(0, (3, 0))
    with pytest.raises(UserError, match="seed"):
        task.problems(-1, (3,))
    with pytest.raises(UserError, match="per_problem"):
        task.noisy_programs(task.problems(0, (3,))[0], 0, 0)
    with pytest.raises(UserError, match="edit"):
        Noise(exchange={}, edit=1.5)
