import os

from ops.console import WAITING_LINES_LIMIT, Console


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
