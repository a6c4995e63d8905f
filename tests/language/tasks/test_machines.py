"""The vectorised machines against hand arithmetic and against plain Python interpreters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.errors import UserError
from hinf_rl.language.tasks import (
    REWARDS,
    ListMachine,
    ProblemSet,
    ResultClass,
    StackMachine,
    unit_test_reward,
)
from hinf_rl.language.tasks.reference import (
    judge,
    reference_status,
    run_stack_machine,
    unpack_lists,
)

LENGTH = 20  # longer than the programs of the tasks, so that the stack can fill up
ROWS = 24
TASKS = {task.name: task for task in (StackMachine(), ListMachine())}
EDGES = [-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1]


@functools.cache
def compiled(name):
    """(verify, execute) of a task, compiled once."""
    return jax.jit(TASKS[name].verify), jax.jit(TASKS[name].execute)


def program(task, text):
    """One program [LENGTH] from its symbols; padded behind."""
    tokens = task.vocabulary.encode(text.split())
    return np.array(tokens + [0] * (LENGTH - len(tokens)), np.int32)


def rows(programs):
    """Pads a few programs to [ROWS, LENGTH], so that nothing is compiled again."""
    padded = np.zeros((ROWS, LENGTH), np.int32)
    padded[: len(programs)] = programs
    return padded


def arithmetic(text, *variables):
    """Output and error of one arithmetic program on one (a, b, c)."""
    task = TASKS["stack_machine"]
    inputs = np.zeros((ROWS, task.num_tests, 3), np.int32)
    inputs[0, 0] = variables
    outputs, is_error = compiled(task.name)[1](rows([program(task, text)]), inputs)
    return int(outputs[0, 0]), bool(is_error[0, 0])


def on_lists(text, x, y=()):
    """Output and error of one list program on one (x, y)."""
    task = TASKS["list_machine"]
    inputs = np.zeros((ROWS, task.num_tests, 2, 9), np.int32)
    for row, items in zip(inputs[0, 0], (x, y), strict=True):
        row[0], row[1 : 1 + len(items)] = len(items), items
    outputs, is_error = compiled(task.name)[1](rows([program(task, text)]), inputs)
    return unpack_lists(np.asarray(outputs)[0, 0]), bool(is_error[0, 0])


def one_problem(task, inputs, outputs):
    """A set of one problem with these tests."""
    nothing = np.zeros((1, 1), np.int32)
    return ProblemSet(nothing, nothing, np.asarray([inputs]), np.asarray([outputs]))


def test_arithmetic_by_hand():
    # (7 - 3) * 2 = 8; the left operand is the one pushed first.
    assert arithmetic("a b - 2 * <eos>", 7, 3, 0) == (8, False)
    # Division rounds down: -7 / 2 = -4 and 7 / -2 = -4, where C gives -3.
    assert arithmetic("a b / <eos>", -7, 2, 0) == (-4, False)
    assert arithmetic("a b / <eos>", 7, -2, 0) == (-4, False)
    assert arithmetic("a b c - / <eos>", 5, 3, 3)[1]


def test_arithmetic_wraps_around():
    low, high = -(2**31), 2**31 - 1
    assert arithmetic("a 1 + <eos>", high, 0, 0) == (low, False)
    assert arithmetic("a b - <eos>", low, 1, 0) == (high, False)
    # 2^30 * 6 = 2^32 + 2^31, of which 2^31 stays.
    assert arithmetic("a b * <eos>", 2**30, 6, 0) == (low, False)
    # The one quotient that does not fit.
    assert arithmetic("a b / <eos>", low, -1, 0) == (low, False)


def test_an_error_is_not_forgotten():
    # (a / 0) * 0 is an error although the product does not depend on the quotient.
    assert arithmetic("a b / b * <eos>", 1, 0, 0)[1]


def test_lists_by_hand():
    assert on_lists("x sort <eos>", [3, -1, 2, -1]) == ([-1, -1, 2, 3], False)
    assert on_lists("x rev <eos>", [1, 2, 3]) == ([3, 2, 1], False)
    assert on_lists("x sums <eos>", [1, 2, 3]) == ([1, 3, 6], False)
    # Adding 1 and doubling do not commute: 2 (1 + 1) = 4 but 2 * 1 + 1 = 3.
    assert on_lists("x inc dbl <eos>", [1]) == ([4], False)
    assert on_lists("x dbl inc <eos>", [1]) == ([3], False)
    assert on_lists("x y add <eos>", [1, 2, 3], [10, 20]) == ([11, 22], False)
    assert on_lists("x y cat <eos>", [1, 2], [3]) == ([1, 2, 3], False)
    assert on_lists("x tail <eos>", [5]) == ([], False)
    assert on_lists("x tail tail <eos>", [5])[1]
    # Nine items are one too many, eight are not.
    assert not on_lists("x y cat <eos>", [1] * 5, [2] * 3)[1]
    assert on_lists("x y cat <eos>", [1] * 5, [2] * 4)[1]
    # The largest integer is an item like any other, although sorting fills up with it.
    assert on_lists("x sort <eos>", [2**31 - 1, 0]) == ([0, 2**31 - 1], False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b + <eos>", ResultClass.PASS),
        ("b a + <eos>", ResultClass.PASS),
        # Behind the end may stand anything.
        ("a b + <eos> / ( <eos>", ResultClass.PASS),
        ("a b - <eos>", ResultClass.FAILED_TEST),
        # Wrong on the first test, an error on the second: the error counts.
        ("a b / <eos>", ResultClass.RUNTIME_ERROR),
        ("a b + c <eos>", ResultClass.COMPILE_ERROR),
        ("a + <eos>", ResultClass.COMPILE_ERROR),
        # An operator that comes too early is not made good by what follows.
        ("+ a b <eos>", ResultClass.COMPILE_ERROR),
        ("( a b + ) <eos>", ResultClass.COMPILE_ERROR),
        ("<bos> a b + <eos>", ResultClass.COMPILE_ERROR),
        ("<eos>", ResultClass.COMPILE_ERROR),
        ("a b +", ResultClass.COMPILE_ERROR),
        # A runtime error does not save what does not compile.
        ("a b / a <eos>", ResultClass.COMPILE_ERROR),
        # Eight values fit the stack.
        ("a b + 1 1 1 1 1 1 1 - - - - - - - <eos>", ResultClass.FAILED_TEST),
        ("a b + 1 1 1 1 1 1 1 1 - - - - - - - - <eos>", ResultClass.COMPILE_ERROR),
    ],
)
def test_classes_by_hand(text, expected):
    task = TASKS["stack_machine"]
    inputs = np.array([[4, 2, 0]] + [[3, 0, 0]] * 7, np.int32)
    problems = one_problem(task, inputs, inputs.sum(axis=1, dtype=np.int32))
    verdict = compiled(task.name)[0](
        problems, rows([program(task, text)]), np.zeros(ROWS, np.int32)
    )
    assert int(verdict.status[0]) == expected
    assert float(verdict.reward[0]) == np.float32(REWARDS[expected])


def test_rewards_of_the_paper():
    # B-Coder, Eq. 2: pass +1, failed test -0.3, runtime error -0.6, compile error -1.
    expected = np.float32([1.0, -0.3, -0.6, -1.0])
    np.testing.assert_array_equal(unit_test_reward(jnp.arange(4)), expected)


@st.composite
def program_tokens(draw, task):
    """Any tokens, or tokens that respect the depth of the stack and may be closed properly."""
    if draw(st.booleans()):
        return draw(st.lists(st.integers(-2, task.vocabulary.size + 1), max_size=LENGTH))
    tokens, depth = [], 0
    for choice in draw(st.lists(st.integers(0, 99), max_size=LENGTH - 1)):
        fitting = [token for token, n in enumerate(task.arities) if 0 <= n <= depth]
        tokens.append(fitting[choice % len(fitting)])
        depth += 1 - task.arities[tokens[-1]]
    return [*tokens, task.vocabulary.eos_id]


def items(num):
    """`num` integers, of which many are edges of int32."""
    item = st.sampled_from(EDGES) | st.integers(-4, 7) | st.integers(EDGES[0], EDGES[-1])
    return st.lists(item, min_size=num, max_size=num)


@st.composite
def batches(draw, name):
    """A task, one problem of arbitrary tests, and programs [ROWS, LENGTH]."""
    task = TASKS[name]
    tokens = draw(st.lists(program_tokens(task), min_size=ROWS, max_size=ROWS))
    programs = np.full((ROWS, LENGTH), task.vocabulary.pad_id, np.int32)
    for row, program in zip(programs, tokens, strict=True):
        row[: len(program)] = program
    shape = (task.num_tests, 3) if name == "stack_machine" else (task.num_tests, 2, 9)
    inputs = np.array(draw(items(int(np.prod(shape)))), np.int64).astype(np.int32).reshape(shape)
    if name == "list_machine":
        inputs[..., 0] = np.abs(inputs[..., 0].astype(np.int64)) % 9
        inputs[..., 1:] *= np.arange(8) < inputs[..., :1]
    # Expected is what the first program gives, so that passing is not out of reach.
    outputs, _ = compiled(name)[1](programs, np.broadcast_to(inputs, (ROWS, *inputs.shape)))
    return task, one_problem(task, inputs, np.asarray(outputs)[0]), programs


@pytest.mark.parametrize("name", sorted(TASKS))
@given(data=st.data())
def test_any_tokens_are_judged_as_by_the_plain_interpreter(name, data):
    task, problems, programs = data.draw(batches(name))
    ids = np.zeros(ROWS, np.int32)
    verdict = compiled(name)[0](problems, programs, ids)
    expected = reference_status(task.name, task.vocabulary, problems, programs, ids)
    np.testing.assert_array_equal(verdict.status, expected)


def test_generated_programs_are_judged_as_by_the_plain_interpreter(task, problem_sets):
    problems = problem_sets[0]
    programs = task.noisy_programs(problems, 1, 20)
    ids = np.repeat(np.arange(len(programs), dtype=np.int32), programs.shape[1])
    programs = programs.reshape(len(ids), -1)
    status = np.asarray(jax.jit(task.verify)(problems, programs, ids).status)
    expected = reference_status(task.name, task.vocabulary, problems, programs, ids)
    np.testing.assert_array_equal(status, expected)
    # All four classes are there, or the comparison says little.
    assert set(status.tolist()) == set(ResultClass)


def test_the_plain_interpreter_stops_at_the_worst_test():
    # 1 / 0 on the second test outranks the wrong sum on the first.
    tests = [((1, 2, 0), 9), ((1, 0, 0), 1)]
    assert judge(run_stack_machine, ["a", "b", "/", "<eos>"], tests) == ResultClass.RUNTIME_ERROR


def test_verify_refuses_programs_without_problems():
    task = TASKS["stack_machine"]
    problems = one_problem(task, np.zeros((8, 3), np.int32), np.zeros(8, np.int32))
    with pytest.raises(AssertionError):
        task.verify(problems, jnp.zeros((3, 12), jnp.int32), jnp.zeros(2, jnp.int32))


def test_unknown_symbols_are_named():
    with pytest.raises(UserError, match="'%'"):
        TASKS["stack_machine"].vocabulary.encode(["a", "%"])
