"""Text to token ids and back, and padding of ragged lists of ids."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hinf_rl.errors import UserError, unknown_name


class Tokenizer(Protocol):
    """What the token side asks of a tokenizer; ids are 0..vocab_size-1."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        ...

    @property
    def pad_id(self) -> int:
        """Fills unused slots; may equal another special id, since masks say what is real."""
        ...

    @property
    def bos_id(self) -> int | None:
        """Stands before a text, where the model was trained so."""
        ...

    @property
    def eos_id(self) -> int:
        """Ends a text."""
        ...

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, without bos or eos."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of `ids`, leaving out pad, bos and eos."""
        ...


class SymbolicTokenizer:
    """A fixed list of symbols; a text is symbols with blanks between them.

    Args:
      symbols: distinct, without blanks; a symbol's place is its id.
      pad: which of them fills unused slots.
      bos: which of them opens a text.
      eos: which of them ends a text.

    Raises:
      UserError: a symbol is empty, has blanks or comes twice, or a special one is not listed.
    """

    def __init__(self, symbols: Sequence[str], *, pad: str, bos: str, eos: str) -> None:
        self._symbols = tuple(symbols)
        for symbol in self._symbols:
            if symbol.split() != [symbol]:
                raise UserError(
                    f"symbol {symbol!r} is empty or has blanks; blanks separate symbols"
                )
        self._ids = {symbol: index for index, symbol in enumerate(self._symbols)}
        if len(self._ids) != len(self._symbols):
            twice = sorted({one for one in self._symbols if self._symbols.count(one) > 1})
            raise UserError(f"symbols must be distinct; more than once: {', '.join(twice)}")
        self._pad, self._bos, self._eos = (self.id(symbol) for symbol in (pad, bos, eos))

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols in the order of their ids."""
        return self._symbols

    @property
    def vocab_size(self) -> int:
        """Number of symbols."""
        return len(self._symbols)

    @property
    def pad_id(self) -> int:
        """Id of the filler."""
        return self._pad

    @property
    def bos_id(self) -> int:
        """Id of the opening symbol."""
        return self._bos

    @property
    def eos_id(self) -> int:
        """Id of the ending symbol."""
        return self._eos

    def id(self, symbol: str) -> int:
        """Returns the id of one symbol.

        Raises:
          UserError: there is no such symbol.
        """
        if symbol not in self._ids:
            raise unknown_name("symbol", symbol, self._ids)
        return self._ids[symbol]

    def encode(self, text: str) -> list[int]:
        """Returns the ids of the symbols of `text`.

        Raises:
          UserError: a symbol is unknown.
        """
        return [self.id(symbol) for symbol in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the symbols of `ids`, without pad, bos and eos.

        Raises:
          UserError: an id lies outside the vocabulary.
        """
        special = {self._pad, self._bos, self._eos}
        for index in ids:
            if not 0 <= index < self.vocab_size:
                raise UserError(f"token id {index} lies outside 0..{self.vocab_size - 1}")
        return " ".join(self._symbols[index] for index in ids if index not in special)


def left_pad(
    sequences: Sequence[Sequence[int]], *, pad_id: int, length: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Puts ragged prompts into one array, their ends aligned.

    Args:
      sequences: B lists of ids.
      pad_id: what fills the front.
      length: number of slots P; None takes the longest.

    Returns:
      [B, P] int32 ids and [B, P] bool, true on real tokens.

    Raises:
      UserError: there is no sequence, one is empty, or one is longer than `length`.
    """
    if any(not sequence for sequence in sequences):
        raise UserError("a prompt is empty; give it at least a bos token")
    tokens, valid = right_pad(
        [list(reversed(sequence)) for sequence in sequences], pad_id=pad_id, length=length
    )
    return np.ascontiguousarray(tokens[:, ::-1]), np.ascontiguousarray(valid[:, ::-1])


def right_pad(
    sequences: Sequence[Sequence[int]], *, pad_id: int, length: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Puts ragged responses into one array, their starts aligned.

    Args:
      sequences: B lists of ids, empty ones allowed.
      pad_id: what fills the end.
      length: number of slots N; None takes the longest.

    Returns:
      [B, N] int32 ids and [B, N] bool, true on real tokens.

    Raises:
      UserError: there is no sequence, or one is longer than `length`.
    """
    if not sequences:
        raise UserError("there is no sequence to pad")
    longest = max(len(sequence) for sequence in sequences)
    slots = longest if length is None else length
    if longest > slots:
        raise UserError(f"a sequence of {longest} tokens does not fit length = {slots}")
    tokens = np.full((len(sequences), slots), pad_id, np.int32)
    valid = np.zeros(tokens.shape, np.bool_)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = sequence
        valid[row, : len(sequence)] = True
    return tokens, valid


__all__ = ["SymbolicTokenizer", "Tokenizer", "left_pad", "right_pad"]
