"""What holds a process: namespaces, a tree of its own, Landlock, another user, limits.

Every measure stands for itself. One that the machine does not grant raises OSError, and the
worker reports it instead. Imported by the worker script, hence no import of this package.
"""

import ctypes
import errno
import os
import resource
import stat
import struct
import sys
from collections.abc import Callable
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

# unshare(2)
_NEW_MOUNTS, _NEW_NAME, _NEW_IPC = 0x00020000, 0x04000000, 0x08000000
_NEW_USER, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
NAMESPACES = {
    "network_namespace": _NEW_NETWORK,
    "process_namespace": _NEW_PROCESSES,
    "ipc_namespace": _NEW_IPC | _NEW_NAME,
}
"""Capability to the flags of Linux that give a program namespaces of its own."""

# mount(2)
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_PROGRAMS = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 32, 4096, 16384, 1 << 18
_DETACH = 2
# Flags that a mount in a less privileged namespace must keep: as statvfs says, as mount takes.
_KEPT = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}

_CAPABILITY_VERSION = 0x20080522
_SET_DEATH_SIGNAL, _SET_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 36, 38
_SYS_CAPSET, _SYS_PIVOT_ROOT = {"x86_64": (126, 155), "aarch64": (91, 41)}.get(
    os.uname().machine, (-1, -1)
)
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446

_FIRST_USER = 2_000_000_000
"""No machine has users from here on; each run gets one, so that limits per user are its own."""
_NOBODY = 65534


def readable_paths() -> list[str]:
    """What a Python program needs to read: the standard library and the system's libraries."""
    library = os.path.dirname(os.__file__)
    wanted = [library, os.path.join(sys.base_prefix, "lib"), "/usr/lib", "/usr/lib64", "/lib"]
    wanted += ["/lib64", "/etc/ld.so.cache"]
    # What lies in another of these need not be named twice.
    return [
        path
        for path in dict.fromkeys(wanted)
        if os.path.lexists(path) and not any(path.startswith(other + "/") for other in wanted)
    ]


DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
"""Device files that a confined program may open."""


def set_death_signal() -> None:
    """The kernel kills this process when its parent dies."""
    _check(_libc.prctl(_SET_DEATH_SIGNAL, 9, 0, 0, 0))


def become_subreaper() -> None:
    """Orphans among the descendants become children of this process."""
    _check(_libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0))


def set_no_new_privileges() -> None:
    """No program that is started from here on gains rights by its file's owner."""
    _check(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def enter_user_namespace() -> None:
    """Makes an ordinary user master of a namespace of its own, and of nothing else."""
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEW_USER))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_NOBODY} {user} 1"),
        ("gid_map", f"{_NOBODY} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def unshare(flags: int) -> None:
    """Leaves the namespaces that `flags` name."""
    _check(_libc.unshare(flags))


def enter_own_tree(root: str, disk_bytes: int) -> None:
    """Puts this process into a tree with libraries to read and a small /tmp to write.

    Args:
      root: an empty directory, on which the tree is built; others keep seeing it empty.
      disk_bytes: room in /tmp, which lies in memory.
    """
    _check(_libc.unshare(_NEW_MOUNTS))
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEVICES, "mode=755,size=64k,nr_inodes=256")
    for path in readable_paths():
        if os.path.islink(path):
            os.makedirs(root + os.path.dirname(path), exist_ok=True)
            os.symlink(os.readlink(path), root + path)
        else:
            _bind_read_only(path, root + path)
    for path in DEVICES:
        if os.path.exists(path):
            _bind(path, root + path)
    os.makedirs(root + "/tmp", exist_ok=True)
    _mount(
        "tmpfs",
        root + "/tmp",
        "tmpfs",
        _NO_SUID | _NO_DEVICES | _NO_PROGRAMS,
        f"mode=777,size={disk_bytes},nr_inodes=4096",
    )
    _mount(None, root, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES)
    os.chdir(root)
    _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."))
    _check(_libc.umount2(b".", _DETACH))
    os.chdir("/tmp")


def restrict_files(work_directory: str) -> None:
    """Landlock: reads the libraries, writes `work_directory`, opens nothing else; no TCP."""
    version = _libc.syscall(_SYS_LANDLOCK_CREATE, None, 0, 1)
    _check(version)
    # Rights on files came with versions 1, 2 (rename across directories), 3 (truncate) and 5
    # (device controls); TCP with 4, signals and abstract sockets with 6.
    num_rights = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    every_right = (1 << num_rights) - 1
    execute, write, read, read_directory = 1, 2, 4, 8
    special_files = 1 << 6 | 1 << 9 | 1 << 11
    attributes = struct.pack("QQQ", every_right, 3 if version >= 4 else 0, 3)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _libc.syscall(_SYS_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0)
    _check(ruleset)
    allowed = dict.fromkeys(readable_paths(), read | read_directory)
    allowed |= dict.fromkeys(DEVICES, read | write)
    allowed[work_directory] = every_right & ~(execute | special_files)
    for path, rights in allowed.items():
        if os.path.exists(path):
            _allow(ruleset, path, rights)
    set_no_new_privileges()
    _check(_libc.syscall(_SYS_LANDLOCK_RESTRICT, ruleset, 0))
    os.close(ruleset)


def change_user(number: int, work_directory: str) -> None:
    """From root to a user without rights, owner of `work_directory` and of nothing else.

    Args:
      number: tells runs apart that go on at the same time; a process number.
      work_directory: handed over to the user.
    """
    user = _FIRST_USER + number
    os.chown(work_directory, user, user)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def drop_capabilities() -> None:
    """Gives up all rights of root, where user numbers alone would not take them."""
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    _check(_libc.syscall(_SYS_CAPSET, header, bytes(24)))


def set_limits(limits: dict[str, Any], *, has_own_user: bool) -> None:
    """Sets what the kernel bounds by itself.

    Args:
      limits: fields of `Limits`.
      has_own_user: whether processes can be counted per user without counting others'.
    """
    # A second more than the worker grants: it measures finer, and says why it stopped a run.
    cpu_s = int(limits["cpu_s"]) + 2
    bounds = {
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if has_own_user:
        bounds[resource.RLIMIT_NPROC] = limits["threads"]
    for number, bound in bounds.items():
        _, hard = resource.getrlimit(number)
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(number, (bound, bound))


def attempt(action: Callable[[], None]) -> str:
    """Takes a measure; returns what prevented it, or nothing."""
    try:
        action()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _allow(ruleset: int, path: str, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= 2 | 4
        rule = struct.pack("=Qi", rights, handle)
        _check(_libc.syscall(_SYS_LANDLOCK_ADD, ruleset, 1, rule, 0))
    finally:
        os.close(handle)


def _bind(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(source, target, None, _BIND | _RECURSIVE)


def _bind_read_only(source: str, target: str) -> None:
    _bind(source, target)
    given = os.statvfs(target).f_flag
    kept = sum(flag for told, flag in _KEPT.items() if given & told)
    flags = _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES
    _mount(None, target, None, flags | kept)


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    data = None if options is None else options.encode()
    _check(_libc.mount(*encoded, ctypes.c_ulong(flags), data))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, os.strerror(number))


__all__ = [
    "DEVICES",
    "NAMESPACES",
    "attempt",
    "become_subreaper",
    "change_user",
    "drop_capabilities",
    "enter_own_tree",
    "enter_user_namespace",
    "readable_paths",
    "restrict_files",
    "set_death_signal",
    "set_limits",
    "set_no_new_privileges",
    "unshare",
]
