"""Become another program that does not outlive its parent: ``guard.py PARENT SIGNAL UID GID PROGRAM [ARGUMENT...]``.

Run as a script of its own, with nothing but the standard library. UID and GID are -1 to stay who we are.
It is a program and not a ``preexec_fn``, as Python code between fork and exec can deadlock where there are threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def drop(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    """From root to an ordinary user who may still walk through root's private folders.

    PostgreSQL refuses to run as root, yet the data folder and the virtual environment may well lie below a folder
    that only root may enter. Rather than open those to everybody, the one capability to pass them is kept. Where the
    kernel refuses it (a container without capabilities), the folders' own permissions decide.
    """
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    bits = 1 << CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    effective_permitted_inheritable = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)
    if libc.capset(header, effective_permitted_inheritable) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def main() -> None:
    parent, signal, uid, gid = map(int, sys.argv[1:5])
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if uid >= 0:
            drop(libc, uid, gid)
        # After the change of user, which resets it.
        libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
    elif uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if os.getppid() != parent:  # it died before we could ask to be told
        sys.exit(1)
    os.execv(sys.argv[5], sys.argv[5:])  # noqa: S606


if __name__ == "__main__":
    main()
