import pytest

from ops.problems import StackProblem
from ops.procfile import instances, parse_procfile, shell_command


def test_names_keep_the_order_of_the_file() -> None:
    text = "# what runs\n\nweb: granian --port $PORT a:b\nworker : rq worker\n"
    assert list(parse_procfile(text).items()) == [("web", "granian --port $PORT a:b"), ("worker", "rq worker")]


def test_every_wrong_line_is_named_at_once() -> None:
    with pytest.raises(StackProblem) as caught:
        parse_procfile("web: a\nnonsense\nweb: b\nvalkey: c\n")
    assert all(part in str(caught.value) for part in ("line 2", "line 3: web is there twice", "line 4", "valkey"))


def test_an_empty_procfile_is_refused() -> None:
    with pytest.raises(StackProblem, match="names no process"):
        parse_procfile("\n# nothing\n")


def test_a_formation_numbers_the_processes_it_names() -> None:
    commands = {"release": "r", "web": "a", "worker": "b", "scheduler": "c"}
    names = [instance.name for instance in instances(commands, {"worker": 2})]
    assert names == ["web", "worker.1", "worker.2", "scheduler"]


def test_a_count_of_zero_leaves_the_kind_out() -> None:
    assert instances({"worker": "b"}, {"worker": 0}) == []


def test_a_command_with_an_assignment_in_front_still_replaces_its_shell() -> None:
    assert shell_command("LEVEL=1 python -m a")[-1] == "exec env LEVEL=1 python -m a"
    assert shell_command("python -m a")[-1] == "exec python -m a"
