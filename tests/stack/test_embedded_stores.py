"""The embedded servers on their own, as the other tests use them."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from ops.postgres import discard_postgres, start_postgres
from ops.problems import StackProblem
from ops.processes import PROJECT_ROOT, children_of, free_port
from ops.valkey import FSYNC_CHOICES, start_valkey
from tests.stack.stack_driver import await_gone

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres as somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="seonchak-test-"))
    folder.chmod(0o711)
    yield folder
    for directory in (folder / "postgres", folder / "copy" / "postgres", folder / "moved" / "postgres"):
        discard_postgres(directory)
    shutil.rmtree(folder, ignore_errors=True)


def test_valkey_keeps_its_data_and_needs_its_password(folder: Path) -> None:
    store = start_valkey(folder / "valkey", free_port())
    with redis.Redis.from_url(store.url) as client:
        client.set("trace", "kept")
        assert client.execute_command("WAITAOF", 1, 0, 5000)[0] == 1
        settings = client.config_get("appendonly", "appendfsync", "save", "maxmemory-policy")
    assert settings == {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
    with redis.Redis(port=store.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    store.kill()
    assert not store.running
    store = start_valkey(folder / "valkey", store.port)
    with redis.Redis.from_url(store.url) as client:
        assert client.get("trace") == b"kept"
    store.stop()
    assert store.process.returncode == 0
    assert stat.S_IMODE((folder / "valkey" / "valkey.conf").stat().st_mode) == 0o600


def test_a_paused_valkey_does_not_answer_until_it_is_resumed(folder: Path) -> None:
    store = start_valkey(folder / "valkey", free_port())
    with redis.Redis.from_url(store.url, socket_timeout=0.2, retry=None) as client:
        client.ping()
        store.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        store.resume()
        assert client.ping()
    store.pause()
    store.stop()
    assert store.process.returncode == 0


def test_a_port_that_somebody_else_has_is_a_problem_with_the_log_in_it(folder: Path) -> None:
    store = start_valkey(folder / "valkey", free_port())
    with pytest.raises(StackProblem, match="Address already in use"):
        start_valkey(folder / "another", store.port)
    store.stop()


def test_postgres_keeps_what_was_committed_when_it_is_killed(folder: Path) -> None:
    store = start_postgres(folder / "postgres", free_port())
    with psycopg.connect(store.url) as connection:
        connection.execute("CREATE TABLE trace AS SELECT 'kept' AS word")
    store.kill()
    store = start_postgres(folder / "postgres", store.port)
    with psycopg.connect(store.url) as connection:
        assert connection.execute("SELECT word FROM trace").fetchone() == ("kept",)
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")]
        assert shown == [("on",), ("on",)]
        assert connection.info.encoding == "utf-8"
    store.stop()
    assert store.process.returncode == 0


def test_postgres_starts_although_children_of_the_killed_one_are_still_there(folder: Path) -> None:
    store = start_postgres(folder / "postgres", free_port())
    children = children_of(store.pid)
    os.kill(children[0], signal.SIGSTOP)  # cannot notice that the postmaster is gone
    os.kill(store.pid, signal.SIGKILL)
    store.process.wait()
    starter = subprocess.Popen(
        [sys.executable, "-c", f"import os,time,signal; time.sleep(1); os.kill({children[0]}, 9)"]
    )
    store = start_postgres(folder / "postgres", store.port)
    starter.wait()
    store.stop()


def test_a_lock_file_whose_number_belongs_to_another_process_by_now_is_no_obstacle(folder: Path) -> None:
    store = start_postgres(folder / "postgres", free_port())
    data = Path(f"/proc/{store.pid}/cwd").resolve()
    store.kill()
    lock = data / "postmaster.pid"
    lines = lock.read_text().splitlines()
    bystander = subprocess.Popen(["sleep", "1000"], **({"user": data.stat().st_uid} if os.geteuid() == 0 else {}))
    lock.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
    store = start_postgres(folder / "postgres", store.port)
    store.stop()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_another_password_is_refused(folder: Path) -> None:
    store = start_postgres(folder / "postgres", free_port())
    wrong = store.url.replace(":", ":wrong", 2).replace(":wrong//", "://")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    assert stat.S_IMODE((folder / "postgres" / "password").stat().st_mode) == 0o600
    store.stop()
    (folder / "postgres" / "password").write_text("otherwise\n")
    with pytest.raises(StackProblem, match="is not the password"):
        start_postgres(folder / "postgres", store.port)


@pytest.mark.parametrize("name", ["valkey", "postgres"])
def test_a_store_dies_with_the_process_that_started_it(folder: Path, name: str) -> None:
    script = (
        "import sys, time; from pathlib import Path; "
        f"from ops.{name} import start_{name}; from ops.processes import free_port; "
        f"store = start_{name}(Path(sys.argv[1]), free_port()); print(store.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder / name)], cwd=PROJECT_ROOT, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        server = int(owner.stdout.readline())
        family = {server, *children_of(server)}
        owner.kill()
    await_gone(family)


@as_root
def test_in_a_folder_that_only_root_can_enter_the_data_move_elsewhere(folder: Path) -> None:
    folder.chmod(0o700)
    store = start_postgres(folder / "postgres", free_port())
    with psycopg.connect(store.url) as connection:
        connection.execute("CREATE TABLE trace AS SELECT 'kept' AS word")
    assert os.stat(f"/proc/{store.pid}").st_uid != 0
    store.stop()
    shelter = Path((folder / "postgres" / "location").read_text().strip())
    assert stat.S_IMODE(shelter.stat().st_mode) == 0o711
    assert shelter.stat().st_uid == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700  # nothing above was loosened
    store = start_postgres(folder / "postgres", store.port)
    with psycopg.connect(store.url) as connection:
        assert connection.execute("SELECT word FROM trace").fetchone() == ("kept",)
    store.stop()
    discard_postgres(folder / "postgres")
    assert not shelter.exists()


@as_root
def test_data_that_moved_elsewhere_follow_a_moved_folder_but_not_a_copied_one(folder: Path) -> None:
    folder.chmod(0o700)
    start_postgres(folder / "postgres", free_port()).stop()
    shutil.copytree(folder / "postgres", folder / "copy" / "postgres")
    with pytest.raises(StackProblem, match="is a copy of"):
        start_postgres(folder / "copy" / "postgres", free_port())
    (folder / "moved").mkdir()
    (folder / "postgres").rename(folder / "moved" / "postgres")
    start_postgres(folder / "moved" / "postgres", free_port()).stop()


@pytest.mark.parametrize("fsync", FSYNC_CHOICES)
def test_valkey_writes_to_disk_when_it_was_told_to(tmp_path: Path, fsync: str) -> None:
    store = start_valkey(tmp_path / "valkey", free_port(), fsync=fsync)
    try:
        with redis.Redis.from_url(store.url, decode_responses=True) as client:
            assert client.config_get("appendfsync") == {"appendfsync": fsync}
    finally:
        store.stop()
