"""A filter of system calls that lets a single Python process compute, and nothing else.

Whatever is not listed fails with EPERM: no new process, no other program, no socket, no signal to
another process, no change of permissions, no mount, no kernel interface. Threads are allowed.
Imported by the worker script, hence no import of this package. Numbers: the kernel's
`unistd_64.h` (x86-64) and generic `unistd.h` (AArch64).
"""

import ctypes
import errno
import os
import platform
import struct

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Audit number of the machine, and which column of `_ALLOWED` is its own."""

# name: (x86-64, AArch64); -1 where the machine has no such call.
_ALLOWED = {
    # files, as far as the directory tree that is left allows
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66),
    "pread64": (17, 67), "pwrite64": (18, 68), "open": (2, -1), "openat": (257, 56),
    "close": (3, 57), "lseek": (8, 62), "stat": (4, -1), "fstat": (5, 80), "lstat": (6, -1),
    "newfstatat": (262, 79), "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44),
    "access": (21, -1), "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, -1),
    "readlinkat": (267, 78), "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49),
    "fchdir": (81, 50), "mkdir": (83, -1), "mkdirat": (258, 34), "rmdir": (84, -1),
    "unlink": (87, -1), "unlinkat": (263, 35), "rename": (82, -1), "renameat": (264, 38),
    "renameat2": (316, 276), "truncate": (76, 45), "ftruncate": (77, 46), "fsync": (74, 82),
    "fdatasync": (75, 83), "flock": (73, 32), "umask": (95, 166), "dup": (32, 23),
    "dup2": (33, -1), "dup3": (292, 24), "pipe": (22, -1), "pipe2": (293, 59), "poll": (7, -1),
    "ppoll": (271, 73), "select": (23, -1), "pselect6": (270, 72), "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21), "epoll_wait": (232, -1), "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    # memory
    "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216),
    "madvise": (28, 233), "brk": (12, 214), "mincore": (27, 232),
    # threads of this process
    "futex": (202, 98), "get_robust_list": (274, 100), "set_robust_list": (273, 99),
    "rseq": (334, 293), "set_tid_address": (218, 96), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "membarrier": (324, 283), "arch_prctl": (158, -1),
    # what one may know
    "gettid": (186, 178), "getpid": (39, 172), "getppid": (110, 173), "getuid": (102, 174),
    "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158),
    "getpgrp": (111, -1), "getpgid": (121, 155), "getsid": (124, 156), "getrlimit": (97, 163),
    "getrusage": (98, 165), "getpriority": (140, 141), "times": (100, 153), "uname": (63, 160),
    "sysinfo": (99, 179), "getcpu": (309, 168), "getrandom": (318, 278),
    # time
    "time": (201, -1), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "gettimeofday": (96, 169),
    "setitimer": (38, 103), "getitimer": (36, 102), "alarm": (37, -1), "pause": (34, -1),
    # signals to oneself, and the end
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "wait4": (61, 260),
    "waitid": (247, 95), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

_CLONE, _CLONE3 = (56, 220), (435, 435)
_KILL, _TGKILL, _PRLIMIT64 = (62, 129), (234, 131), (302, 261)
_FCNTL, _IOCTL = (72, 25), (16, 29)
_CLONE_THREAD = 0x00010000
# Setting the owner or the signal of a descriptor would let the kernel signal another process.
_FCNTL_DENIED = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX
# TCGETS, TIOCGWINSZ, FIONBIO, FIONCLEX, FIOCLEX: what Python's own input and output asks.
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)

_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE = 0, 4
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_DENY = _ERRNO | errno.EPERM

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def install() -> None:
    """Puts the filter on this process for good.

    Raises:
      OSError: the kernel refuses it, or the machine is neither x86-64 nor AArch64.
    """
    code = b"".join(struct.pack("HBBI", *step) for step in _filter(os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    for option in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program)),
    ):
        arguments = [ctypes.c_ulong(x) if isinstance(x, int) else x for x in option[1:]]
        if libc.prctl(option[0], *arguments, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _filter(pid: int) -> list[_Instruction]:
    """The instructions for a process of this number."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no filter for {machine}")
    audit, column = _ARCHITECTURES[machine]
    steps = [
        (_LOAD, 0, 0, _OFFSET_ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
    ]
    for numbers in _ALLOWED.values():
        if numbers[column] >= 0:
            steps += _on(numbers[column], [(_RETURN, 0, 0, _ALLOW)])
    steps += _on(_CLONE[column], _unless(_JUMP_SET, 0, [_CLONE_THREAD], _ALLOW, _DENY))
    # Its flags lie in memory, where no filter can look; told that it does not exist, the C
    # library goes back to clone.
    steps += _on(_CLONE3[column], [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])
    for numbers in (_KILL, _TGKILL):
        steps += _on(numbers[column], _unless(_JUMP_EQUAL, 0, [pid], _ALLOW, _DENY))
    steps += _on(_PRLIMIT64[column], _unless(_JUMP_EQUAL, 0, [0, pid], _ALLOW, _DENY))
    steps += _on(_FCNTL[column], _unless(_JUMP_EQUAL, 1, _FCNTL_DENIED, _DENY, _ALLOW))
    steps += _on(_IOCTL[column], _unless(_JUMP_EQUAL, 1, _IOCTL_ALLOWED, _ALLOW, _DENY))
    return [*steps, (_RETURN, 0, 0, _DENY)]


def _on(number: int, body: list[_Instruction]) -> list[_Instruction]:
    """Runs `body`, which returns, for one system call."""
    return [(_JUMP_EQUAL, 0, len(body), number), *body]


def _unless(
    test: int, argument: int, constants: list[int] | tuple[int, ...], found: int, otherwise: int
) -> list[_Instruction]:
    """Returns `found` if the argument passes the test with any constant, else `otherwise`.

    Only the low half of the argument is looked at: the kernel itself takes these as 32 bits.
    """
    steps: list[_Instruction] = [(_LOAD, 0, 0, 16 + 8 * argument)]
    for constant in constants:
        steps += [(test, 0, 1, constant), (_RETURN, 0, 0, found)]
    return [*steps, (_RETURN, 0, 0, otherwise)]


__all__ = ["install"]
