"""SIGINT and SIGTERM as a wish to stop at the next safe point."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Whether, and by which signal, the process was asked to stop.

    Attributes:
      signal: number of the signal, None while nobody asked.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        # The second signal is impatience: stop at once, the last checkpoint is intact.
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


@contextlib.contextmanager
def catch_interrupts() -> Iterator[Interrupt]:
    """Catches the first SIGINT or SIGTERM inside the block; handlers are put back after it.

    Outside the main thread Python allows no handlers, and the block catches nothing.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {number: signal.signal(number, interrupt._handle) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


__all__ = ["Interrupt", "catch_interrupts"]
