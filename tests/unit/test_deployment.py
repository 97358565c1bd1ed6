"""The files that operators deploy with, as far as they can be checked without Docker, systemd and Kubernetes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.config import Settings
from engine.errors import InvalidSettings
from ops.processes import PROJECT_ROOT
from ops.procfile import parse_procfile
from ops.systemd import FOLDER, NOT_HERE, units
from web.preferences import LONGEST_WAIT_SECONDS

OPERATIONS = PROJECT_ROOT / "docs" / "operations"
COMPOSE: dict[str, Any] = yaml.safe_load((OPERATIONS / "container" / "compose.yaml").read_text())
DOCKERFILE = (OPERATIONS / "container" / "Dockerfile").read_text()
KUBERNETES: list[dict[str, Any]] = list(yaml.safe_load_all((OPERATIONS / "kubernetes" / "seonchak.yaml").read_text()))
PROCFILE = (PROJECT_ROOT / "Procfile").read_text()
COMMANDS = {kind: shlex.split(command) for kind, command in parse_procfile(PROCFILE).items() if kind not in NOT_HERE}
MIGRATE = ["python", "-m", "ops", "migrate"]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - in a container, behind AUTH=jwt
STORES = {"redis", "postgres"}


def instructions(name: str) -> list[str]:
    """The arguments of every such instruction of the Dockerfile."""
    lines = DOCKERFILE.replace("\\\n", " ").splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"{name} ")]


def packages_at(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if (path / "__init__.py").exists()}


def pods() -> dict[str, dict[str, Any]]:
    found = {}
    for document in KUBERNETES:
        if document["kind"] in ("Deployment", "Job"):
            spec = document["spec"]["template"]["spec"]
            found[document["metadata"]["name"].removeprefix("seonchak-")] = spec
    return found


def test_the_image_copies_what_there_is_and_all_that_runs() -> None:
    copied = {words.split()[0] for words in instructions("COPY") if not words.startswith("--from")}
    assert all((PROJECT_ROOT / name).exists() for name in copied)
    assert packages_at(PROJECT_ROOT) - {"tests", "loadtests"} | {"lua", "Procfile", "requirements.txt"} == copied
    assert "--require-hashes" in DOCKERFILE
    assert instructions("USER") == ["10001"]


def test_the_image_starts_what_the_procfile_starts() -> None:
    assert yaml.safe_load(instructions("CMD")[-1]) == COMMANDS["web"]
    assert instructions("EXPOSE") == [str(Settings.port)]


def test_compose_runs_every_process_with_the_procfiles_command() -> None:
    services = COMPOSE["services"]
    assert {name: each["command"] for name, each in services.items() if name not in STORES} == {
        **COMMANDS,
        "migrate": MIGRATE,
    }
    for name in COMMANDS:
        assert services[name]["stop_grace_period"] == "30s"
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    built = services["web"]["build"]
    context = (OPERATIONS / "container" / built["context"]).resolve()
    assert context == PROJECT_ROOT
    assert (context / built["dockerfile"]).read_text() == DOCKERFILE


def test_compose_gives_settings_that_the_configuration_takes() -> None:
    for name in COMMANDS:
        given = {
            variable: re.sub(r"\$\{(\w+)(?::-(\w+)|:\?)\}", lambda match: match[2] or "https://x" * 5, str(value))
            for variable, value in COMPOSE["services"][name]["environment"].items()
        }
        settings = Settings.from_environment(given)
        assert settings.auth == "jwt"
        assert settings.redis_url.endswith("@redis:6379/0")
        assert known_settings(given) == set(given)
    assert COMPOSE["services"]["web"]["environment"]["HOST"] == EVERYWHERE


def known_settings(given: dict[str, str]) -> set[str]:
    """Those of the variables that the configuration reads."""
    read: set[str] = set()

    class Noted(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            read.add(name)
            return super().get(name, default)

    Settings.from_environment(Noted(given))
    return read & set(given)


def test_a_setting_that_nobody_reads_is_found() -> None:
    """The negative control."""
    good = {"REDIS_URL": "redis://x", "DATABASE_URL": "postgresql://x/y", "REDIS_ADDRESS": "x"}
    assert known_settings(good) == {"REDIS_URL", "DATABASE_URL"}
    with pytest.raises(InvalidSettings):
        Settings.from_environment({**good, "HOST": EVERYWHERE})


def test_the_redis_of_compose_forgets_nothing() -> None:
    command = COMPOSE["services"]["redis"]["command"]
    for option, value in (("--maxmemory-policy", "noeviction"), ("--appendonly", "yes"), ("--save", "")):
        assert command[command.index(option) + 1] == value


def test_kubernetes_runs_every_process_with_the_procfiles_command() -> None:
    found = {name: pod["containers"][0]["command"] for name, pod in pods().items()}
    web = found.pop("web")
    assert web[: len(COMMANDS["web"])] == COMMANDS["web"]
    assert found == {**{name: command for name, command in COMMANDS.items() if name != "web"}, "migrate": MIGRATE}


def test_kubernetes_waits_for_whoever_leaves() -> None:
    for name, pod in pods().items():
        if name != "migrate":
            assert pod["terminationGracePeriodSeconds"] > LONGEST_WAIT_SECONDS + 10
    web = pods()["web"]["containers"][0]
    before, goodbye = int(web["lifecycle"]["preStop"]["exec"]["command"][1]), int(web["command"][-1])
    assert pods()["web"]["terminationGracePeriodSeconds"] > before + goodbye + LONGEST_WAIT_SECONDS + 10


def test_kubernetes_asks_paths_that_there_are() -> None:
    web = pods()["web"]["containers"][0]
    assert web["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {web[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {"/healthz"}
    port = {each["name"]: each["containerPort"] for each in web["ports"]}["http"]
    variables = {each["name"]: each["value"] for each in web["env"]}
    assert variables["PORT"] == str(port) == str(Settings.port)
    service = next(each for each in KUBERNETES if each["kind"] == "Service")
    assert service["spec"]["selector"].items() <= {"app": "seonchak", "process": "web"}.items()


def test_every_selector_finds_its_pods() -> None:
    for document in KUBERNETES:
        if document["kind"] == "Deployment":
            labels = document["spec"]["template"]["metadata"]["labels"]
            assert document["spec"]["selector"]["matchLabels"] == labels


def test_the_units_are_those_of_the_procfile() -> None:
    made = units(PROCFILE)
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == made, "python -m ops.systemd"
    for kind, command in COMMANDS.items():
        (text,) = (
            text for name, text in made.items() if name in (f"seonchak-{kind}.service", f"seonchak-{kind}@.service")
        )
        assert f"ExecStart=/opt/seonchak/.venv/bin/{shlex.join(command)}\n" in text
        assert "Type=notify\n" in text
        stop = re.search(r"TimeoutStopSec=(\d+)", text)
        assert stop is not None
        assert int(stop[1]) > LONGEST_WAIT_SECONDS + 10


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """By systemd's own word where it is there; its rules for the lines of a file hold everywhere."""
    for path in FOLDER.iterdir():
        lines = [line for line in path.read_text().splitlines() if line]
        assert all(re.fullmatch(r"\[[A-Z]\w+\]|[A-Z]\w+=\S.*", line) for line in lines), path
        # The program, the user and the settings are not on this machine.
        text = re.sub(r"^ExecStart=.*", "ExecStart=/bin/true", path.read_text(), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(re.sub(r"^(User|EnvironmentFile)=.*\n", "", text, flags=re.MULTILINE))
    if verifier := shutil.which("systemd-analyze"):
        names = [path.name.replace("@.", "@1.") for path in FOLDER.iterdir()]
        for name in names:
            if "@1." in name:
                (tmp_path / name).write_text((tmp_path / name.replace("@1.", "@.")).read_text())
        finished = subprocess.run(
            [verifier, "verify", "--man=no", *(str(tmp_path / name) for name in names)], capture_output=True, text=True
        )
        assert (finished.returncode, finished.stderr) == (0, "")
