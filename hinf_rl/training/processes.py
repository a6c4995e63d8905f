"""Several processes that train as one: who writes, and how all learn the same.

Every process runs the same program on its own environments. The first alone touches the disk;
what it finds there, and what goes wrong, it tells the others, so that all stop in one place.
With one process nothing is sent.
"""

import os
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from hinf_rl.errors import UserError

_Result = TypeVar("_Result")
_TIMEOUT_S = 120
"""How long to wait for the others, at the start and at the end."""


class Cluster(NamedTuple):
    """Where the processes of one training meet.

    Attributes:
      coordinator: HOST:PORT that the first process listens on; None is a process of its own.
      num_processes: how many processes take part.
      process_id: which of them this is, 0 to num_processes - 1.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def start(cluster: Cluster) -> None:
    """Joins the other processes; nothing may have been computed before.

    Raises:
      UserError: an option is missing or out of range, or the port is taken.
      SystemExit: the others do not come within two minutes; the process ends with 2.
    """
    if cluster == Cluster():
        return
    _check(cluster)
    watch = threading.Timer(_TIMEOUT_S, _give_up, [cluster])
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.num_processes,
            cluster.process_id,
            initialization_timeout=2 * _TIMEOUT_S,
            shutdown_timeout_seconds=_TIMEOUT_S,
        )
    except RuntimeError as error:
        raise UserError(_absent(cluster)) from error
    finally:
        watch.cancel()


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def on_first(action: Callable[[], _Result]) -> _Result:
    """Runs `action` in the first process; all get its result, or raise its error.

    Every process must come here, in the same order.

    Args:
      action: of nothing; its result can be pickled.
    """
    if jax.process_count() == 1:
        return action()
    result: Any = None
    failure: Exception | None = None
    if is_first():
        try:
            result = action()
        except Exception as error:
            failure = error
    told = (result, _portable(failure))
    result, failure_told = pickle.loads(_broadcast(pickle.dumps(told)))
    if failure is not None:
        raise failure
    if failure_told is not None:
        raise failure_told
    return result


def meet() -> None:
    """Waits for all processes.

    They open their connections at the first exchange between them, and give up on one that
    comes 30 s late: meet before it, and after work that takes them unequally long. Once open,
    connections wait.
    """
    on_first(lambda: None)


def any_signal(number: int | None) -> int | None:
    """The signal that any process received: all stop where one was asked to."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    found = multihost_utils.process_allgather(np.asarray(number or 0, np.int32))
    return int(np.max(found)) or None


def to_host(array: jax.Array) -> np.ndarray:
    """Copies an array to the host, whichever processes hold its rows; all must come here."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _check(cluster: Cluster) -> None:
    coordinator, count, index = cluster
    if coordinator is None or count is None or index is None:
        raise UserError(
            "--coordinator HOST:PORT, --num-processes N and --process-id I go together; give all "
            "three to each process, or none"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator wants HOST:PORT, got {coordinator!r}")
    if count < 1:
        raise UserError(f"--num-processes must be at least 1, got {count}")
    if not 0 <= index < count:
        raise UserError(f"--process-id must lie in [0, --num-processes = {count}), got {index}")


def _absent(cluster: Cluster) -> str:
    return (
        f"process {cluster.process_id} of {cluster.num_processes} did not meet the others at "
        f"--coordinator {cluster.coordinator}; start all of them, process 0 on that machine and "
        "with a port that is free"
    )


def _give_up(cluster: Cluster) -> None:
    """Ends a process that waits in vain: JAX cannot be interrupted there, and would abort."""
    print(f"error: {_absent(cluster)}", file=sys.stderr, flush=True)
    os._exit(2)


def _portable(error: Exception | None) -> Exception | None:
    """The error as the other processes raise it: some of a library's cannot be pickled."""
    if error is None:
        return None
    if isinstance(error, UserError):
        return UserError(str(error))
    return RuntimeError(f"the first process failed: {type(error).__name__}: {error}")


def _broadcast(data: bytes) -> bytes:
    """Sends the first process's bytes to all; the length goes before."""
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.asarray(len(data), np.int32)))
    buffer = np.zeros(size, np.uint8)
    if is_first():
        buffer[:] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(buffer), np.uint8).tobytes()


__all__ = ["Cluster", "any_signal", "is_first", "meet", "on_first", "start", "to_host"]
