"""The supervisor: owns every process of the local stack, from the first store to the last worker.

Starts the stores, then the release step, then the Procfile's processes; starts again what dies; stops in order. All of
it happens in the main thread, because the kernel ties a child's death signal to the thread that started the child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from engine.service_manager import LISTEN_VARIABLES, NOTIFY_VARIABLE, open_listeners
from engine.telemetry.logs import COLOUR_VARIABLE, HUMAN, JSON
from ops.console import Console, complain, wants_colours
from ops.metrics_folder import METRICS_VARIABLE, empty_metrics_folder, metrics_folder
from ops.postgres import launch_postgres, start_postgres
from ops.problems import StackProblem, StartInterrupted
from ops.processes import BARE_ENVIRONMENT, MARK_VARIABLE, PROJECT_ROOT, kill_marked, spawn
from ops.procfile import RELEASE, Instance, instances, shell_command
from ops.readiness import ReadinessWatch
from ops.restarts import RestartPolicy, Restarts
from ops.rolling import RollingRestart
from ops.slot import Slot
from ops.stack import STACK_FILE, Stack
from ops.stop_requests import StopRequests
from ops.stores import RunningStore
from ops.valkey import launch_valkey, start_valkey

TAKES_OUR_LISTENERS = "-m web.serve"
"""A web command with this in it gets its listening sockets from us; any other opens the port itself."""
LISTENERS = 2
"""As many as the Procfile's web has processes."""
DEFAULT_RELEASE = "python -m ops migrate"
PROCESSES_STOP_SECONDS = 6.0
STORES_STOP_SECONDS = 2.5
"""Together well below the ten seconds in which the whole stack promises to be gone."""


@dataclass(frozen=True)
class Plan:
    """What to run. A URL of None means: the embedded server, on the port beside it."""

    data_dir: Path
    mark: str
    """Unique for the data folder, so that leftovers of a killed stack can be found."""
    host: str
    port: int
    address: str
    redis_url: str | None
    queue_redis_url: str | None
    database_url: str | None
    valkey_port: int
    valkey_fsync: str
    postgres_port: int
    commands: Mapping[str, str]
    formation: Mapping[str, int] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    log_format: str = HUMAN
    """How the processes and we write: for people, unless somebody asks for JSON. Their stderr is a pipe to us."""
    hints: Sequence[str] = ()
    """What to do next, said once everything is ready."""
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    readiness_patience_seconds: float = 60.0


class Supervisor:
    """Runs one plan once. ``lock`` is the descriptor that holds the data folder; the reaper shares it."""

    def __init__(self, plan: Plan, lock: int, requests: StopRequests) -> None:
        self._plan = plan
        self._lock = lock
        self._requests = requests
        self._instances = instances(plan.commands, plan.formation)
        names = [*(instance.name for instance in self._instances), "postgres", RELEASE]
        self._colours = wants_colours(plan.environ)
        self._console = Console(max(map(len, names)), as_json=plan.log_format == JSON, colours=self._colours)
        self._stores: list[Slot] = []
        self._processes: list[Slot] = []
        self._relays: list[threading.Thread] = []
        self._listeners: list[socket.socket] = []
        self._rolling: RollingRestart | None = None
        self._replacements = 0
        self._ready = False
        self._stack = Stack(plan.address, plan.host, plan.port, "", "", "", str(plan.data_dir))
        self._reaper: subprocess.Popen[bytes]

    def run(self) -> int:
        """Run until somebody asks to stop or something keeps dying; returns the exit code. Nothing is left running.

        Raises :class:`StackProblem` when the stores do not start.
        """
        code = 1
        kill_marked(self._plan.mark + "/")  # only if an earlier supervisor was killed together with its reaper
        empty_metrics_folder(self._plan.data_dir)
        self._start_reaper()
        try:
            self._start_stores()
            code = self._release()
            if code == 0 and not self._requests.stop:
                code = self._serve()
        except StartInterrupted:
            code = 0
        finally:
            self._stop()
        return code

    # -- starting

    def _start_reaper(self) -> None:
        self._reaper = subprocess.Popen(
            [sys.executable, "-S", "-m", "ops.reaper", self._plan.mark + "/"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=PROJECT_ROOT,
            env={**BARE_ENVIRONMENT, "PYTHONPATH": str(PROJECT_ROOT)},
            start_new_session=True,
            pass_fds=(self._lock,),
        )
        for slot in self._stores:
            self._tell_reaper(slot)

    def _tell_reaper(self, slot: Slot) -> None:
        if slot.process is not None and self._reaper.stdin is not None:
            # Of Postgres, SIGQUIT ends the children, too.
            number = signal.SIGQUIT if slot.name == "postgres" else signal.SIGKILL
            with contextlib.suppress(OSError):
                self._reaper.stdin.write(f"+{slot.process.pid} {int(number)}\n".encode())
                self._reaper.stdin.flush()

    def _start_stores(self) -> None:
        plan = self._plan
        redis_url = plan.redis_url
        if redis_url is None:
            folder = plan.data_dir / "valkey"
            fsync = plan.valkey_fsync
            store = start_valkey(folder, plan.valkey_port, lambda: self._requests.stop, fsync=fsync)
            self._adopt(store, lambda: launch_valkey(folder, plan.valkey_port, fsync=fsync).process)
            redis_url = store.url
        database_url = plan.database_url
        if database_url is None:
            home = plan.data_dir / "postgres"
            store = start_postgres(home, plan.postgres_port, lambda: self._requests.stop)
            self._adopt(store, lambda: launch_postgres(home, plan.postgres_port).process)
            database_url = store.url
        self._stack.redis_url = redis_url
        self._stack.queue_redis_url = plan.queue_redis_url or redis_url
        self._stack.database_url = database_url
        self._publish()

    def _adopt(self, store: RunningStore, launch: Callable[[], subprocess.Popen[bytes]]) -> None:
        slot = Slot(store.name, launch, self._mark(store.name), Restarts(self._plan.policy), store.stop_signal)
        slot.process = store.process
        self._stores.append(slot)
        self._tell_reaper(slot)
        self._console.say(store.name, f"listens on 127.0.0.1:{store.port}, data in {store.directory}")

    def _release(self) -> int:
        """Run the one-shot step; its exit code 2 (a clear message) is ours, any other failure is 1."""
        command = self._plan.commands.get(RELEASE, DEFAULT_RELEASE)
        process = self._spawn(Instance(RELEASE, RELEASE, command), {})
        while process.poll() is None and not self._requests.stop:
            self._requests.pause(0.2)
        slot = Slot(RELEASE, lambda: process, self._mark(RELEASE), Restarts(self._plan.policy), process=process)
        if process.poll() is None:
            self._stop_together([slot], STORES_STOP_SECONDS)
            return 0
        code = process.returncode
        slot.finish()
        if code == 0:
            return 0
        self._relays[-1].join(1.0)
        self._console.flush()
        complain(f"the release step failed with exit code {code}: {command}")
        return 2 if code == 2 else 1

    def _spawn(self, instance: Instance, more_environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        takes_ours = TAKES_OUR_LISTENERS in instance.command
        process = spawn(
            shell_command(instance.command),
            environ={**self._environment(instance), **more_environ},
            output=subprocess.PIPE,
            listeners=[listener.fileno() for listener in self._listeners] if takes_ours else (),
        )
        assert process.stdout is not None  # noqa: S101 - asked for above
        relay = threading.Thread(target=self._relay, args=(instance.name, process.stdout), daemon=True)
        relay.start()
        self._relays = [thread for thread in self._relays if thread.is_alive()] + [relay]
        return process

    def _environment(self, instance: Instance) -> dict[str, str]:
        stack = self._stack
        # What our own service manager said to us is not meant for them.
        meant_for_us = (NOTIFY_VARIABLE, *LISTEN_VARIABLES)
        return {
            **{name: value for name, value in self._plan.environ.items() if name not in meant_for_us},
            "REDIS_URL": stack.redis_url,
            "QUEUE_REDIS_URL": stack.queue_redis_url,
            "DATABASE_URL": stack.database_url,
            "HOST": stack.host,
            "PORT": str(stack.port),
            "DATA_DIR": stack.data_dir,
            "PYTHONUNBUFFERED": "1",
            "LOG_FORMAT": self._plan.log_format,
            **({COLOUR_VARIABLE: "1"} if self._colours else {}),
            METRICS_VARIABLE: str(metrics_folder(self._plan.data_dir)),
            MARK_VARIABLE: self._mark(instance.name),  # unless its slot has another one
        }

    def _relay(self, name: str, output: IO[bytes]) -> None:
        with output:
            while line := output.readline(65_536):
                self._console.say(name, line.decode(errors="replace").rstrip("\r\n"))

    def _mark(self, name: str) -> str:
        return f"{self._plan.mark}/{name}"

    # -- running

    def _serve(self) -> int:
        self._open_listeners()
        for instance in self._instances:
            slot = self._slot_for(instance, self._mark(instance.name))
            self._processes.append(slot)
            slot.start()
        self._publish()
        watch = None
        if "web" in self._plan.commands:
            watch = ReadinessWatch(
                self._plan.host, self._plan.port, self._note_ready, self._say_waiting,
                self._plan.readiness_patience_seconds,
            )  # fmt: skip
        try:
            return self._watch_over()
        finally:
            if watch is not None:
                watch.stop()

    def _open_listeners(self) -> None:
        """The web's sockets are ours, so that they outlive it: who connects while a process is replaced waits."""
        if any(TAKES_OUR_LISTENERS in instance.command for instance in self._instances):
            try:
                self._listeners = open_listeners(self._plan.host, self._plan.port, LISTENERS)
            except OSError as error:
                place = f"port {self._plan.port} on {self._plan.host}"
                raise StackProblem(f"{place} cannot be listened on: {os.strerror(error.errno or 0)}") from error

    def _slot_for(self, instance: Instance, mark: str, more_environ: Mapping[str, str] | None = None) -> Slot:
        environ = {**(more_environ or {}), MARK_VARIABLE: mark}
        return Slot(instance.name, lambda: self._spawn(instance, environ), mark, Restarts(self._plan.policy))

    def _watch_over(self) -> int:
        while not self._requests.stop:
            if self._ready and not self._stack.ready:
                self._stack.ready = True
                self._publish()
                self._console.announce(f"Seonchak is ready: {self._plan.address}")
                for hint in self._plan.hints:
                    self._console.announce(f"  {hint}", important=False)
            if self._reaper.poll() is not None:
                self._start_reaper()
                self._publish()
            for slot in [*self._stores, *self._processes]:
                if slot.due_at is None and slot.kept_up and not slot.running and not self._plan_restart(slot):
                    return 1
                if slot.due_at is not None and slot.due_at <= time.monotonic():
                    self._restart(slot)
            due = [slot.due_at - time.monotonic() for slot in [*self._stores, *self._processes] if slot.due_at]
            self._go_on_rolling()
            self._requests.pause(min([0.5 if self._rolling is None else 0.05, *due]))
        return 0

    def _go_on_rolling(self) -> None:
        if self._requests.take_rolling() and self._rolling is None:
            kinds = {instance.name: instance.kind for instance in self._instances}
            self._rolling = RollingRestart(self._processes, lambda slot: kinds[slot.name], self._replacement)
        if self._rolling is None:
            return
        problem = ""
        try:
            said = self._rolling.step(time.monotonic())
        except StackProblem as error:
            said = problem = str(error)
        if problem or self._rolling.done:
            self._rolling = None
            self._stack.rolling_restarts += 1
            self._stack.rolling_problem = problem
        if said:
            self._console.say("stack", said)
            self._publish()

    def _replacement(self, old: Slot, more_environ: Mapping[str, str]) -> Slot:
        instance = next(instance for instance in self._instances if instance.name == old.name)
        self._replacements += 1  # a mark of its own, because clearing up kills whatever carries the old one
        return self._slot_for(instance, f"{self._mark(old.name)}~{self._replacements}", more_environ)

    def _plan_restart(self, slot: Slot) -> bool:
        """Clear up after a death; False when it has died too often."""
        how = slot.clear()
        delay = slot.restarts.delay_after_death(time.monotonic())
        if delay is None:
            policy = self._plan.policy
            self._console.flush()
            complain(
                f"{slot.name} keeps dying (it {how}; {policy.limit} restarts within {policy.window_seconds:.0f} s "
                f"did not help): stopping the stack. Its last lines are above"
                + (f" or in {self._plan.data_dir / slot.name}" if slot in self._stores else "")
            )
            return False
        self._console.say(slot.name, f"{how}; starting again in {delay:.1f} s")
        slot.due_at = time.monotonic() + delay
        self._publish()
        return True

    def _restart(self, slot: Slot) -> None:
        try:
            slot.start()
        except (StackProblem, OSError) as error:  # counts as a death, at the next look
            self._console.say(slot.name, str(error))
            return
        if slot in self._stores:
            self._tell_reaper(slot)
        self._publish()

    def _note_ready(self) -> None:
        self._ready = True
        self._requests.wake()

    def _say_waiting(self, missing: str) -> None:
        self._console.say("stack", f"not ready yet: {missing}")

    def _publish(self) -> None:
        self._stack.pids = {"supervisor": os.getpid(), "reaper": self._reaper.pid}
        for slot in [*self._stores, *self._processes]:
            if slot.process is not None:
                self._stack.pids[slot.name] = slot.process.pid
        try:
            self._stack.write()
        except OSError as error:  # a full disk must not take the shop down
            self._console.say("stack", f"{STACK_FILE} cannot be written: {error.strerror}")

    # -- stopping

    def _stop(self) -> None:
        """Web, workers, scheduler (the Procfile's order), then the stores; nothing is left afterwards."""
        for listener in self._listeners:
            listener.close()  # the web's own copies go with the web
        deadline = time.monotonic() + PROCESSES_STOP_SECONDS
        kinds = list(dict.fromkeys(instance.kind for instance in self._instances)) if self._processes else []
        for number, kind in enumerate(kinds):
            names = {instance.name for instance in self._instances if instance.kind == kind}
            share = (deadline - time.monotonic()) / (len(kinds) - number)
            self._stop_together([slot for slot in self._processes if slot.name in names], share)
        self._stop_together(self._stores, STORES_STOP_SECONDS, orderly_in_a_hurry=True)
        kill_marked(self._plan.mark + "/")
        with contextlib.suppress(OSError):
            self._reaper.communicate(b"done\n", timeout=2.0)
        for relay in self._relays:
            relay.join(0.2)
        self._console.flush()

    def _stop_together(self, slots: list[Slot], seconds: float, orderly_in_a_hurry: bool = False) -> None:
        """Ask, wait for at most ``seconds``, then kill. In a hurry only the stores still get a second to write."""
        for slot in slots:
            slot.ask_to_stop()
        started = time.monotonic()
        while any(slot.running for slot in slots):
            patience = seconds
            if self._requests.hurry:
                patience = 1.0 if orderly_in_a_hurry else 0.0
            if time.monotonic() - started >= patience:
                break
            self._requests.pause(0.1)
        for slot in slots:
            slot.finish()
