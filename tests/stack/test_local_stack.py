"""The whole local stack, with stubs in the place of web and workers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from ops.postgres import start_postgres
from ops.processes import free_port, is_alive
from ops.stack import read_stack
from ops.valkey import start_valkey
from tests.stack.stack_driver import StackDriver, await_gone, family_of, wait_until


@pytest.fixture
def driver() -> Iterator[StackDriver]:
    folder = Path(tempfile.mkdtemp(prefix="seonchak-test-"))
    folder.chmod(0o711)
    driver = StackDriver(folder)
    yield driver
    driver.clean_up()


def remember(driver: StackDriver) -> None:
    """Leave a trace in both stores, on disk when this returns."""
    with redis.Redis.from_url(driver.stack.redis_url) as client:
        client.set("trace", "kept")
        assert client.execute_command("WAITAOF", 1, 0, 5000)[0] == 1
    with psycopg.connect(driver.stack.database_url) as connection:
        connection.execute("CREATE TABLE trace AS SELECT 'kept' AS word")


def variable(output: str, name: str) -> str:
    """What the release step, being `env`, has shown of a variable."""
    [value] = re.findall(rf"^release +\| {name}=(.*)$", output, re.MULTILINE)
    return str(value)


def assert_remembered(driver: StackDriver) -> None:
    with redis.Redis.from_url(driver.stack.redis_url) as client:
        assert client.get("trace") == b"kept"
    with psycopg.connect(driver.stack.database_url) as connection:
        assert connection.execute("SELECT word FROM trace").fetchone() == ("kept",)


def test_it_starts_prints_its_address_once_and_leaves_nothing_behind(driver: StackDriver) -> None:
    driver.start_and_await_ready(WORKERS="2")
    wait_until(lambda: "is ready" in driver.output, "the address is printed")
    pids = driver.stack.pids
    assert set(pids) == {"supervisor", "reaper", "valkey", "postgres", "web", "worker.1", "worker.2"}
    assert stat.S_IMODE((driver.data_dir / "stack.json").stat().st_mode) == 0o600
    family = driver.family()
    assert set(pids.values()) <= family
    assert driver.stop() == 0
    assert driver.output.count(f"Seonchak is ready: http://127.0.0.1:{driver.port}/\n") == 1
    assert not any(is_alive(pid) for pid in family)
    assert not (driver.data_dir / "stack.json").exists()
    assert driver.complaint == ""


def test_processes_learn_where_everything_is(driver: StackDriver) -> None:
    driver.procfile(release="env", web=f"python {driver.folder / 'web.py'}")
    driver.start_and_await_ready(LANES="4")
    stack = driver.stack
    for line in (
        f"REDIS_URL={stack.redis_url}",
        f"QUEUE_REDIS_URL={stack.redis_url}",
        f"DATABASE_URL={stack.database_url}",
        f"PORT={driver.port}",
        f"DATA_DIR={driver.data_dir}",
        "LANES=4",
        "DEMO_DATA=1",
    ):
        assert f"release  | {line}\n" in driver.output


def test_order_events_go_to_the_stand_in_unless_told_otherwise(driver: StackDriver) -> None:
    driver.procfile(release="env", web=f"python {driver.folder / 'web.py'}")
    driver.start_and_await_ready()
    output = driver.output
    port = variable(output, "PLATFORM_PORT")
    assert variable(output, "DATA_PLATFORM_URL") == f"http://127.0.0.1:{port}/events"
    assert len(variable(output, "DATA_PLATFORM_SECRET")) == 32
    assert driver.stop() == 0
    driver.start_and_await_ready()
    assert variable(driver.output, "PLATFORM_PORT") == port
    assert variable(driver.output, "DATA_PLATFORM_SECRET") != variable(output, "DATA_PLATFORM_SECRET")
    assert driver.stop() == 0
    given = {"DATA_PLATFORM_URL": "https://platform.example/in", "DATA_PLATFORM_SECRET": "ours"}
    driver.start_and_await_ready(**given)
    assert {name: variable(driver.output, name) for name in given} == given


def test_a_data_platform_without_a_secret_is_refused(driver: StackDriver) -> None:
    assert "DATA_PLATFORM_SECRET is not set" in driver.refused(DATA_PLATFORM_URL="https://platform.example/in")


def test_starting_again_finds_all_data_at_the_same_addresses(driver: StackDriver) -> None:
    driver.start_and_await_ready()
    remember(driver)
    before = driver.stack
    assert driver.stop(signal.SIGINT) == 0
    driver.start_and_await_ready()
    assert_remembered(driver)
    assert (driver.stack.redis_url, driver.stack.database_url) == (before.redis_url, before.database_url)


def test_killing_the_supervisor_leaves_no_process_and_no_loss(driver: StackDriver) -> None:
    """granian's workers outlive a killed parent; the worker's child has left its session, as RQ's work horse does."""
    (driver.folder / "app.py").write_text("def app(environ, start):\n    start('200 OK', [])\n    return [b'ok']\n")
    granian = "python -m granian --interface wsgi --workers 2 --host $HOST --port $PORT app:app --working-dir"
    (driver.folder / "worker.py").write_text(
        "import subprocess\nsubprocess.run(['sleep', '1000'], start_new_session=True)\n"
    )
    driver.procfile(release="true", web=f"{granian} {driver.folder}", worker=f"python {driver.folder / 'worker.py'}")
    driver.start_and_await_ready()
    wait_until(lambda: len(family_of(driver.stack.pids["worker.1"])) == 2, "the worker has its child")
    assert len(family_of(driver.stack.pids["web"])) >= 3
    remember(driver)
    family = driver.family()
    driver.supervisor.kill()
    driver.supervisor.wait()
    driver.start_and_await_ready()  # at once: it waits for the reaper
    assert not any(is_alive(pid) for pid in family)
    assert_remembered(driver)


def test_killing_the_supervisor_and_its_reaper_leaves_leftovers_to_the_next_start_only(driver: StackDriver) -> None:
    (driver.folder / "worker.py").write_text(
        "import subprocess\nsubprocess.run(['sleep', '1000'], start_new_session=True)\n"
    )
    driver.procfile(
        release="true", web=f"python {driver.folder / 'web.py'}", worker=f"python {driver.folder / 'worker.py'}"
    )
    driver.start_and_await_ready()
    wait_until(lambda: len(family_of(driver.stack.pids["worker.1"])) == 2, "the worker has its child")
    family = driver.family()
    os.kill(driver.supervisor.pid, signal.SIGSTOP)  # or it would start another reaper
    os.kill(driver.stack.pids["reaper"], signal.SIGKILL)
    driver.supervisor.kill()
    driver.supervisor.wait()
    driver.start_and_await_ready()
    await_gone(family)


def test_a_killed_process_is_started_again_and_its_leftovers_are_gone(driver: StackDriver) -> None:
    (driver.folder / "worker.py").write_text(
        "import subprocess\nsubprocess.run(['sleep', '1000'], start_new_session=True)\n"
    )
    driver.procfile(
        release="true", web=f"python {driver.folder / 'web.py'}", worker=f"python {driver.folder / 'worker.py'}"
    )
    driver.start_and_await_ready()
    first = driver.stack.pids["worker.1"]
    wait_until(lambda: len(family_of(first)) == 2, "the worker has its child")
    family = family_of(first)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: driver.stack.pids.get("worker.1", first) != first, "a new worker is running")
    assert not any(is_alive(pid) for pid in family)
    assert "was ended by SIGKILL; starting again in 0.1 s" in driver.output


def test_a_process_that_keeps_dying_stops_the_stack(driver: StackDriver) -> None:
    driver.procfile(release="true", web=f"python {driver.folder / 'web.py'}", worker="sh -c 'echo no queue; exit 3'")
    driver.start("--restarts", "2")
    assert driver.supervisor.wait(30) == 1
    assert "worker.1 keeps dying (it ended with exit code 3; 2 restarts within 60 s did not help)" in driver.complaint
    assert driver.output.count("worker.1 | no queue") == 3
    assert "Traceback" not in driver.complaint


@pytest.mark.parametrize("name", ["valkey", "postgres"])
def test_a_killed_store_is_started_again_with_its_data(driver: StackDriver, name: str) -> None:
    driver.start_and_await_ready()
    remember(driver)
    before = driver.stack
    os.kill(before.pids[name], signal.SIGKILL)
    wait_until(lambda: driver.stack.pids.get(name, before.pids[name]) != before.pids[name], f"a new {name} is running")

    def remembered() -> bool:
        try:
            assert_remembered(driver)
        except (redis.ConnectionError, psycopg.OperationalError):
            return False
        return True

    wait_until(remembered, "the data are there")
    assert driver.stack.redis_url == before.redis_url
    assert driver.stack.pids["web"] == before.pids["web"]


def test_a_killed_reaper_is_replaced(driver: StackDriver) -> None:
    driver.start_and_await_ready()
    first = driver.stack.pids["reaper"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: driver.stack.pids["reaper"] != first, "a new reaper is running")
    family = driver.family()
    driver.supervisor.kill()
    driver.supervisor.wait()
    await_gone(family)


def test_processes_that_ignore_the_stop_are_gone_within_ten_seconds(driver: StackDriver) -> None:
    stubborn = "python -c 'import signal, time; signal.signal(15, signal.SIG_IGN); print(\"deaf\"); time.sleep(1000)'"
    driver.procfile(release="true", web=f"python {driver.folder / 'web.py'}", worker=stubborn, scheduler=stubborn)
    driver.start_and_await_ready()
    wait_until(lambda: driver.output.count("| deaf") == 2, "both are deaf")
    os.kill(driver.stack.pids["valkey"], signal.SIGSTOP)
    os.kill(driver.stack.pids["postgres"], signal.SIGSTOP)
    family = driver.family()
    started = time.monotonic()
    assert driver.stop() == 0
    assert time.monotonic() - started < 10
    assert not any(is_alive(pid) for pid in family)


def test_a_second_ctrl_c_hurries(driver: StackDriver) -> None:
    stubborn = "python -c 'import signal, time; signal.signal(15, signal.SIG_IGN); print(\"deaf\"); time.sleep(1000)'"
    driver.procfile(release="true", web=f"python {driver.folder / 'web.py'}", worker=stubborn, scheduler=stubborn)
    driver.start_and_await_ready()
    wait_until(lambda: driver.output.count("| deaf") == 2, "both are deaf")
    web = driver.stack.pids["web"]
    started = time.monotonic()
    driver.supervisor.send_signal(signal.SIGINT)
    wait_until(lambda: not is_alive(web), "the stop is under way")
    while time.monotonic() - started < 0.7:  # what follows sooner counts as the same request
        time.sleep(0.05)
    driver.supervisor.send_signal(signal.SIGINT)
    assert driver.supervisor.wait(10) == 0
    assert time.monotonic() - started < 4


def test_it_says_what_is_missing_while_it_is_not_ready(driver: StackDriver) -> None:
    driver.data_dir.mkdir()
    (driver.data_dir / "not-ready").touch()
    driver.start("--readiness-patience", "0.5")
    wait_until(lambda: "503: missing: the gate is not verified" in driver.output, "it says what is missing")
    assert "Seonchak is ready" not in driver.output
    (driver.data_dir / "not-ready").unlink()
    driver.await_ready()


def test_nobody_has_to_read_its_output(driver: StackDriver) -> None:
    chatty = "python -c 'while True: print(\"x\" * 1000)'"
    driver.procfile(release="true", web=f"python {driver.folder / 'web.py'}", worker=chatty)
    reader, writer = os.pipe()
    driver.start(stdout=writer)
    os.close(writer)
    driver.await_ready()
    family = driver.family()
    assert driver.stop() == 0
    assert not any(is_alive(pid) for pid in family)
    os.close(reader)


def test_it_runs_with_a_closed_stdout(driver: StackDriver) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    driver.start(stdout=writer)
    os.close(writer)
    driver.await_ready()
    assert driver.stop() == 0


def test_a_failing_release_step_stops_the_start_with_its_exit_code(driver: StackDriver) -> None:
    driver.procfile(release="sh -c 'echo built with LANES=4; exit 2'", web="true")
    assert "the release step failed with exit code 2" in driver.refused()
    assert "release  | built with LANES=4" in driver.output


def test_a_stop_during_the_start_is_heard(driver: StackDriver) -> None:
    driver.procfile(release="sleep 1000", web="true")
    driver.start()
    wait_until(lambda: read_stack(driver.data_dir), "the stores are running")
    family = driver.family()
    assert driver.stop() == 0
    assert not any(is_alive(pid) for pid in family)


def test_a_taken_port_is_named(driver: StackDriver) -> None:
    with socket.create_server(("127.0.0.1", driver.port)):
        message = driver.refused()
    assert f"port {driver.port} on 127.0.0.1 is taken" in message
    assert "PORT=" in message
    assert not (driver.data_dir / "stack.json").exists()


def test_a_data_folder_that_cannot_be_written_is_named(driver: StackDriver) -> None:
    driver.data_dir.write_text("in the way")
    message = driver.refused()
    assert f"DATA_DIR={driver.data_dir} cannot be written" in message
    assert "DATA_DIR=… make run" in message


def test_data_of_another_postgres_major_is_left_alone(driver: StackDriver) -> None:
    cluster = driver.data_dir / "postgres" / "data"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("14\n")
    message = driver.refused()
    assert "was made by Postgres 14" in message
    assert sorted(path.name for path in cluster.iterdir()) == ["PG_VERSION"]


def test_a_second_stack_in_the_same_folder_is_refused(driver: StackDriver) -> None:
    driver.start_and_await_ready()
    first = driver.supervisor
    message = driver.refused(PORT=str(free_port()))
    assert f"DATA_DIR={driver.data_dir} is in use by another stack (process {first.pid})" in message
    assert driver.stack.ready
    driver.process = first


def test_wrong_settings_are_all_named_at_once(driver: StackDriver) -> None:
    message = driver.refused(
        PORT="http", LANES="0", WORKERS="many", REDIS_URL="mysql://x", HOST="192.0.2.1", APPENDFSYNC="no"
    )
    for name in ("PORT=http", "LANES=0", "WORKERS=many", "REDIS_URL: the scheme", "HOST=192.0.2.1", "APPENDFSYNC=no"):
        assert name in message


def test_stores_that_do_not_answer_are_named_without_their_passwords(driver: StackDriver) -> None:
    nobody = free_port()
    message = driver.refused(
        REDIS_URL=f"redis://:hush@127.0.0.1:{nobody}/0", DATABASE_URL=f"postgresql://me:hush@127.0.0.1:{nobody}/shop"
    )
    assert f"REDIS_URL: the Redis at 127.0.0.1:{nobody} cannot be used" in message
    assert f"DATABASE_URL: the Postgres at 127.0.0.1:{nobody} cannot be used" in message
    assert "hush" not in message


def test_given_stores_replace_the_embedded_ones(driver: StackDriver) -> None:
    valkey = start_valkey(driver.folder / "own-valkey", free_port())
    postgres = start_postgres(driver.folder / "own-postgres", free_port())
    try:
        driver.start_and_await_ready(REDIS_URL=valkey.url, DATABASE_URL=postgres.url)
        assert set(driver.stack.pids) == {"supervisor", "reaper", "web", "worker.1"}
        assert driver.stack.queue_redis_url == valkey.url
        assert driver.stop() == 0
        assert valkey.running
        assert postgres.running
    finally:
        valkey.stop()
        postgres.stop()


def test_a_file_left_by_a_killed_supervisor_is_not_taken_for_a_running_stack(tmp_path: Path) -> None:
    fields = dict.fromkeys(("address", "host", "redis_url", "queue_redis_url", "database_url", "data_dir"), "")
    finished = subprocess.Popen(["true"])
    finished.wait()
    (tmp_path / "stack.json").write_text(json.dumps({**fields, "port": 1, "pids": {"supervisor": finished.pid}}))
    assert read_stack(tmp_path) is None
    assert read_stack(tmp_path / "nowhere") is None
