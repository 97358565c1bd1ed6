"""``python -m ops.systemd``: units for the processes of the Procfile, written to ``docs/operations/systemd``.

They are for a host of its own: the code in ``/opt/seonchak``, settings in ``/etc/seonchak/env``, a user ``seonchak``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.service_manager import BACKLOG
from ops.processes import PROJECT_ROOT
from ops.procfile import parse_procfile

FOLDER = PROJECT_ROOT / "docs" / "operations" / "systemd"
HOME = "/opt/seonchak"
SETTINGS = "/etc/seonchak/env"
NOT_HERE = ("platform",)
"""A stand-in for somebody else's service: on a real host there is the real one."""
SEVERAL = ("web", "worker", "followups")
"""Kinds of which a host may run as many as it likes: seonchak-worker@1, seonchak-worker@2, … All webs share one socket,
so one of them can be replaced while the other serves."""
LEAVING_SECONDS = 30
"""How long a process has to finish what it is at: longer than the longest wait that a client may wish for."""

_UNIT = """\
[Unit]
Description=Seonchak {kind}
PartOf=seonchak.target
After=network-online.target{after}
Wants=network-online.target{requires}

[Service]
Type=notify
NotifyAccess=all
User=seonchak
WorkingDirectory={home}
EnvironmentFile={settings}
ExecStart={command}{sockets}
Environment=PROMETHEUS_MULTIPROC_DIR=/run/seonchak/metrics
RuntimeDirectory=seonchak/metrics
RuntimeDirectoryPreserve=yes
LimitNOFILE=65536
Restart=always
RestartSec=1
TimeoutStartSec=60
TimeoutStopSec={leaving}
KillMode=mixed
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes

[Install]
WantedBy=seonchak.target
"""

_SOCKET = """\
[Unit]
Description=Where Seonchak's web is reached
PartOf=seonchak.target

[Socket]
ListenStream=127.0.0.1:8000
ListenStream=127.0.0.1:8000
ReusePort=yes
Backlog={backlog}
Service=seonchak-web@1.service

[Install]
WantedBy=sockets.target
"""

_MIGRATE = """\
[Unit]
Description=Bring Seonchak's ledger up to date
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
User=seonchak
WorkingDirectory={home}
EnvironmentFile={settings}
ExecStart={command}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
"""

_TARGET = """\
[Unit]
Description=Seonchak

[Install]
WantedBy=multi-user.target
"""


def units(procfile: str) -> dict[str, str]:
    """The text of every unit by its file name. Raises StackProblem for a wrong Procfile."""
    found = {"seonchak.target": _TARGET, "seonchak-web.socket": _SOCKET.format(backlog=BACKLOG)}
    found["seonchak-migrate.service"] = _MIGRATE.format(
        home=HOME, settings=SETTINGS, command=_absolute("python -m ops migrate")
    )
    for kind, command in parse_procfile(procfile).items():
        if kind in NOT_HERE:
            continue
        name = f"seonchak-{kind}{'@' if kind in SEVERAL else ''}.service"
        found[name] = _UNIT.format(
            kind=f"{kind} %i" if kind in SEVERAL else kind,
            after=" seonchak-web.socket" if kind == "web" else "",
            requires="\nRequires=seonchak-web.socket" if kind == "web" else "",
            sockets="\nSockets=seonchak-web.socket" if kind == "web" else "",
            home=HOME,
            settings=SETTINGS,
            command=_absolute(command),
            leaving=LEAVING_SECONDS,
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ops.systemd", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to (%(default)s)")
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in units((PROJECT_ROOT / "Procfile").read_text(encoding="utf-8")).items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)
    return 0


def _absolute(command: str) -> str:
    """systemd looks for no program in a PATH of ours: ``python`` is the one of the code's own environment."""
    program, *words = shlex.split(command)
    return shlex.join([f"{HOME}/.venv/bin/{program}", *words])


if __name__ == "__main__":
    sys.exit(main())
