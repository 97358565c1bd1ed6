"""CSV files as forms: one line after the other, what is wrong by its line number.

UTF-8, with or without a byte order mark; the first line names the columns, as the API names the members; an empty cell
is a member that was not sent. Nothing of a file is kept but the line at hand, so it may be as long as it likes.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Generic

from pydantic import ValidationError

from engine.errors import EngineError
from engine.shop.loading import FormOfLine, Line, LinesRefused, Problem
from ops.commands.values import whole_number

LONGEST_LINE_BYTES = 1_000_000
PROBLEMS_SHOWN = 20
COPIED_AT_ONCE = 1_000_000
_MARK = "\ufeff"


class FileChanged(EngineError):
    """The file is not the one any more that was looked at; nothing was changed."""


@dataclass(frozen=True)
class Checked:
    """A file in which every line is good: how many there are, and what stands for all of them."""

    lines: int
    digest: str


class CsvLines(Generic[FormOfLine]):
    """The lines of a file that can be read from its beginning again."""

    def __init__(self, file: IO[bytes], form: type[FormOfLine]) -> None:
        self._file = file
        self._form: type[FormOfLine] = form
        self._columns = {field.alias or name: field for name, field in form.model_fields.items()}

    def check(self) -> Checked:
        """Look at every line. Raises LinesRefused with the first so many that are wrong."""
        problems: list[Problem] = []
        count = 0
        reading = _Reading(self._file)
        for found in self._found(reading):
            if isinstance(found, Problem):
                problems.append(found)
                if len(problems) == PROBLEMS_SHOWN:
                    raise LinesRefused(problems, more=True)
            else:
                count += 1
        if problems:
            raise LinesRefused(problems)
        return Checked(count, reading.digest)

    def read(self, checked: Checked) -> Iterator[Line[FormOfLine]]:
        """Every line, of a file that was checked. Raises FileChanged, at its end at the latest, if it is another."""
        reading = _Reading(self._file)
        for found in self._found(reading):
            if isinstance(found, Problem):
                raise FileChanged(f"the file was changed while it was read: line {found.line}: {found.reason}")
            yield found
        if reading.digest != checked.digest:
            raise FileChanged("the file was changed while it was read: nothing was changed")

    def _found(self, reading: _Reading) -> Iterator[Line[FormOfLine] | Problem]:
        rows = csv.reader(reading.texts(), strict=True)
        heads: Sequence[str] | None = None
        while True:
            number = rows.line_num + 1
            try:
                cells = next(rows)
            except StopIteration:
                break
            except (csv.Error, _BadLine) as error:
                # What comes after it may be a part of it.
                yield Problem(max(number, reading.number), str(error))
                return
            if not cells:
                continue
            if heads is None:
                heads = cells
                problems = self._wrong_heads(heads)
                if problems:
                    yield from (Problem(number, problem) for problem in problems)
                    return
                continue
            yield self._line(number, heads, cells)
        if heads is None:
            yield Problem(1, f"the first line has to name the columns: {', '.join(self._columns)}")

    def _wrong_heads(self, heads: Sequence[str]) -> list[str]:
        known = ", ".join(self._columns)
        problems = [f"there is no column {head!r}; there are {known}" for head in heads if head not in self._columns]
        problems += [f"the column {head} is there twice" for head in dict.fromkeys(heads) if heads.count(head) > 1]
        for name, field in self._columns.items():
            if field.is_required() and name not in heads:
                problems.append(f"the column {name} is missing")
        return problems

    def _line(self, number: int, heads: Sequence[str], cells: Sequence[str]) -> Line[FormOfLine] | Problem:
        if len(cells) != len(heads):
            return Problem(number, f"{len(cells)} cells where the first line names {len(heads)} columns")
        sent = {head: cell for head, cell in zip(heads, cells, strict=True) if cell}
        if any("\0" in cell for cell in sent.values()):
            return Problem(number, "a cell contains NUL")
        try:
            return Line(number, self._form.model_validate(_values(sent, self._numbers)))
        except ValidationError as error:
            reasons = [f"{'.'.join(map(str, each['loc'])) or 'line'}: {each['msg']}" for each in error.errors()]
            return Problem(number, "; ".join(reasons))

    @property
    def _numbers(self) -> frozenset[str]:
        return frozenset(name for name in self._columns if name in _NUMBERS)


_NUMBERS = frozenset({"userId", "balance", "price", "stock", "discountAmount", "totalQuantity"})


def _values(sent: Mapping[str, str], numbers: frozenset[str]) -> dict[str, object]:
    """Cells have no kinds: those of a column of numbers that look like one are one, for the form to judge."""
    return {name: whole_number(cell) if name in numbers else cell for name, cell in sent.items()}


@contextmanager
def rewindable(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The file itself, or a copy on disk of what comes out of a pipe."""
    if file.seekable():
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        while some := file.read(COPIED_AT_ONCE):
            copy.write(some)
        yield copy


class _BadLine(ValueError):
    """A line that is no text, or longer than any of ours."""


class _Reading:
    """One reading of a file: which line it is at, and the digest of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        file.seek(0)
        self._file = file
        self._hash = sha256()
        self.number = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def texts(self) -> Iterator[str]:
        while raw := self._file.readline(LONGEST_LINE_BYTES):
            self.number += 1
            self._hash.update(raw)
            if len(raw) == LONGEST_LINE_BYTES:
                raise _BadLine("longer than any line can be")
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                raise _BadLine("not UTF-8") from error
            yield text.removeprefix(_MARK) if self.number == 1 else text
