import os

from ops.console import WAITING_LINES_LIMIT, Console, wants_colours


def read_available(descriptor: int) -> str:
    return os.read(descriptor, 1_000_000).decode()


def test_lines_carry_their_process_in_one_column() -> None:
    reader, writer = os.pipe()
    console = Console(width=9, descriptor=writer)
    console.say("web", "hello")
    console.announce("Seonchak is ready")
    console.flush()
    assert read_available(reader) == "web       | hello\nSeonchak is ready\n"
    os.close(reader)
    os.close(writer)


def test_a_pipe_that_nobody_reads_never_blocks_the_caller_and_lost_lines_are_counted() -> None:
    reader, writer = os.pipe()
    console = Console(width=3, descriptor=writer)
    for number in range(WAITING_LINES_LIMIT * 3):
        console.say("web", f"line {number}")
    console.flush(patience_seconds=0.05)
    received = ""
    while f"line {WAITING_LINES_LIMIT * 3 - 1}\n" not in received:
        received += read_available(reader)
    assert "lines were dropped: nobody read them" in received
    console.flush()
    os.close(reader)
    os.close(writer)


def test_a_closed_descriptor_is_survived() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    console = Console(width=3, descriptor=writer)
    console.say("web", "into the void")
    console.flush()
    os.close(writer)


def said(*, as_json: bool = False, colours: bool = False) -> list[str]:
    """What a console makes of a line of a process, one of JSON, and an announcement."""
    reader, writer = os.pipe()
    console = Console(width=4, descriptor=writer, as_json=as_json, colours=colours)
    console.say("web", "ends")
    console.say("web", '{"message": "begins"}')
    console.announce("ready")
    console.flush()
    text = read_available(reader)
    os.close(reader)
    os.close(writer)
    return text.splitlines()


def test_where_processes_write_json_every_line_of_theirs_and_ours_is_a_document() -> None:
    assert said(as_json=True) == ['{"message": "ends", "process": "web"}', '{"message": "begins"}', "ready"]


def test_colours_are_around_the_name_and_the_line_to_look_for() -> None:
    process, _, ready = said(colours=True)
    assert process.startswith("\x1b[")
    assert process.endswith("m ends")
    assert ready == "\x1b[1;32mready\x1b[0m"


def test_colours_are_for_terminals_and_for_those_who_ask_for_them() -> None:
    reader, writer = os.pipe()
    assert not wants_colours({}, writer)
    assert wants_colours({"FORCE_COLOR": "1"}, writer)
    assert not wants_colours({"FORCE_COLOR": "1", "NO_COLOR": "1"}, writer)
    os.close(reader)
    os.close(writer)
    terminal, other_end = os.openpty()
    assert wants_colours({}, other_end)
    assert not wants_colours({"NO_COLOR": "1"}, other_end)
    os.close(terminal)
    os.close(other_end)
