"""Become another program that dies with its parent.

``python die_with_parent.py SIGNAL PARENT UID GID LISTENER -- command``

The kernel forgets PR_SET_PDEATHSIG when a process changes its user, so the order matters: drop the user first, then
ask for the signal, then look whether the parent is still there (it may have died before we asked), then exec.
UID ``-1`` keeps the user. Dropping happens here and not in ``subprocess.Popen(user=…)`` because the other user may be
unable to run this Python at all (an interpreter in a 0700 home); the exec'd program is all that it must reach.

LISTENER is the descriptor of a listening socket, handed on as systemd does (sd_listen_fds(3)), or ``-1``. That, too,
happens here, because the socket is addressed to a pid, which nobody knows before there is a process.

Started by path with ``python -I -S``; so it imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
FIRST_LISTENER = 3


def main(arguments: list[str]) -> None:
    """Never returns: the process becomes the command, or ends with 127 when it cannot."""
    death_signal, parent, uid, gid, listener = (int(argument) for argument in arguments[:5])
    command = arguments[6:]
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the user changes, who may be unable to read it
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit(1)
    if listener >= 0:
        os.dup2(listener, FIRST_LISTENER)
        if listener != FIRST_LISTENER:
            os.close(listener)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming that program is the purpose
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
