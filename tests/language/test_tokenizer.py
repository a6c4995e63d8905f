"""Symbols to ids and back, and padding."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hinf_rl.errors import UserError
from hinf_rl.language.tokenizer import SymbolicTokenizer, left_pad, right_pad

SYMBOLS = ("pad", "bos", "eos", "a", "b", "+", "(", ")")
TOKENIZER = SymbolicTokenizer(SYMBOLS, pad="pad", bos="bos", eos="eos")


def test_a_symbols_place_is_its_id():
    assert TOKENIZER.vocab_size == 8
    assert (TOKENIZER.pad_id, TOKENIZER.bos_id, TOKENIZER.eos_id) == (0, 1, 2)
    assert TOKENIZER.encode("a + ( b )") == [3, 5, 6, 4, 7]
    assert TOKENIZER.encode("") == []
    assert TOKENIZER.symbols == SYMBOLS


@given(st.lists(st.sampled_from(SYMBOLS[3:])))
def test_what_is_encoded_is_decoded(symbols):
    text = " ".join(symbols)
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode([1, *ids, 2, 0, 0]) == text
    assert TOKENIZER.decode(np.asarray(ids, np.int32)) == text


@pytest.mark.parametrize(
    ("symbols", "special", "message"),
    [
        (("pad", "a", "a", "b", "b"), "pad", "more than once: a, b"),
        (("pad", "a b"), "pad", "'a b' is empty or has blanks"),
        (("pad", ""), "pad", "'' is empty"),
        (("pad", "a"), "eos", "unknown symbol 'eos'"),
    ],
)
def test_impossible_lists_are_named(symbols, special, message):
    with pytest.raises(UserError, match=message):
        SymbolicTokenizer(symbols, pad="pad", bos="pad", eos=special)


def test_unknown_symbols_and_ids_are_named():
    with pytest.raises(UserError, match="unknown symbol 'c'"):
        TOKENIZER.encode("a + c")
    for index in (-1, 8):
        with pytest.raises(UserError, match=f"token id {index} lies outside 0..7"):
            TOKENIZER.decode([3, index])


def test_prompts_end_together_and_responses_start_together():
    tokens, valid = left_pad([[3], [4, 5, 6]], pad_id=0)
    np.testing.assert_array_equal(tokens, [[0, 0, 3], [4, 5, 6]])
    np.testing.assert_array_equal(valid, [[False, False, True], [True, True, True]])
    tokens, valid = right_pad([[3], [], [4, 5]], pad_id=9, length=3)
    np.testing.assert_array_equal(tokens, [[3, 9, 9], [9, 9, 9], [4, 5, 9]])
    np.testing.assert_array_equal(valid.sum(1), [1, 0, 2])
    assert tokens.dtype == np.int32
    assert valid.dtype == np.bool_


@pytest.mark.parametrize(
    ("pad", "sequences", "message"),
    [
        (left_pad, [[1], []], "a prompt is empty"),
        (left_pad, [], "there is no sequence"),
        (left_pad, [[1, 2, 3]], "a sequence of 3 tokens does not fit length = 2"),
        (right_pad, [[1, 2, 3]], "a sequence of 3 tokens does not fit length = 2"),
    ],
)
def test_impossible_paddings_are_named(pad, sequences, message):
    with pytest.raises(UserError, match=message):
        pad(sequences, pad_id=0, length=2)
