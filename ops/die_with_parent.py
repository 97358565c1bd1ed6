"""Become another program that dies with its parent.

``python die_with_parent.py SIGNAL PARENT UID GID LISTENERS -- command``

The kernel forgets PR_SET_PDEATHSIG when a process changes its user, so the order matters: drop the user first, then
ask for the signal, then look whether the parent is still there (it may have died before we asked), then exec.
UID ``-1`` keeps the user. Dropping happens here and not in ``subprocess.Popen(user=…)`` because the other user may be
unable to run this Python at all (an interpreter in a 0700 home); the exec'd program is all that it must reach.

LISTENERS are the descriptors of listening sockets (``7,8``), handed on as systemd does (sd_listen_fds(3)), or ``-``.
That, too, happens here, because the sockets are addressed to a pid, which nobody knows before there is a process.

Started by path with ``python -I -S``; so it imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys

PR_SET_PDEATHSIG = 1
FIRST_LISTENER = 3
ABOVE_LISTENERS = 64


def main(arguments: list[str]) -> None:
    """Never returns: the process becomes the command, or ends with 127 when it cannot."""
    death_signal, parent, uid, gid = (int(argument) for argument in arguments[:4])
    listeners, command = arguments[4], arguments[6:]
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the user changes, who may be unable to read it
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit(1)
    if listeners != "-":
        _hand_on([int(descriptor) for descriptor in listeners.split(",")])
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming that program is the purpose
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _hand_on(listeners: list[int]) -> None:
    """Move them to 3, 4, …; out of the way first, because one may be where another one goes."""
    aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, ABOVE_LISTENERS) for descriptor in listeners]
    for descriptor in listeners:
        os.close(descriptor)
    for place, descriptor in enumerate(aside, FIRST_LISTENER):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(listeners)))


if __name__ == "__main__":
    main(sys.argv[1:])
