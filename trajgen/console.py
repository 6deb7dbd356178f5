"""What the two commands share: log lines, progress on a terminal, errors as exit codes."""

import errno
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from trajgen.errors import InputError, TrajgenError
from trajgen.files import DISK_FULL
from trajgen.progress import SILENT, Progress, ProgressTask

logger = logging.getLogger("trajgen")

#: A plain log line of a running task appears at most this often.
LINE_INTERVAL_S = 10.0

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_WRONG_PATH = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


def require_seed(seed: int) -> int:
    """Return what was given as ``--seed``.

    Raises:
        InputError: it is negative.
    """
    if seed < 0:
        raise InputError(f"--seed is {seed}; wanted is a whole number of 0 or more")
    return seed


def is_main_process() -> bool:
    """Say whether this is the only process or the first of several that train together."""
    return int(os.environ.get("RANK", "0")) == 0


def configure_logging(verbose: bool = False) -> None:
    """Send the log lines of both packages to stderr; called by the commands only.

    Of several processes that train together the first one alone logs.
    """
    level = logging.DEBUG if verbose else logging.INFO
    if not is_main_process():
        level = logging.ERROR
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    for name in ("trajgen", "al"):
        package = logging.getLogger(name)
        package.handlers = [handler]
        package.setLevel(level)
        package.propagate = False


@contextmanager
def exit_with_code() -> Iterator[None]:
    """Turn the errors that a user can act on into one sentence on stderr and an exit code."""
    try:
        yield
    except TrajgenError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        where = f" for {error.filename}" if error.filename else ""
        if error.errno in DISK_FULL:
            _fail(f"there is no space left{where}; free some and run the same command again", 1)
        if error.errno in _FORBIDDEN:
            _fail(f"there is no permission{where}; change its rights or name another path", 2)
        if error.errno in _WRONG_PATH:
            _fail(f"the path cannot be used{where} ({error.strerror}); name another one", 2)
        if error.errno is None:
            raise
        _fail(f"the system refused{where}: {error.strerror}", 1)
    except SystemExit as end:
        if end.code == 130:  # what the command line library makes of Ctrl-C
            sys.stderr.write("error: interrupted; what was finished is kept\n")
        raise
    except KeyboardInterrupt:
        _fail("interrupted; what was finished is kept", 130)


def _fail(sentence: str, code: int) -> None:
    sys.stderr.write(f"error: {sentence}\n")
    sys.exit(code)


def choose_progress() -> Progress:
    """Return a progress bar on a terminal, and plain log lines elsewhere."""
    if not is_main_process():
        return SILENT
    return TerminalProgress() if sys.stderr.isatty() else LineProgress()


class TerminalProgress(Progress):
    """Progress bars with the time left, for a terminal."""

    def task(
        self, label: str, total: int, done: int = 0, limit_s: float | None = None
    ) -> ProgressTask:
        """Begin a bar."""
        return _BarTask(label, total, done, limit_s)


class LineProgress(Progress):
    """A log line now and then with the share done and the time left."""

    def task(
        self, label: str, total: int, done: int = 0, limit_s: float | None = None
    ) -> ProgressTask:
        """Begin a task that logs lines."""
        return _LineTask(label, total, done, limit_s)


class _TimeLeft(TimeRemainingColumn):
    """The time that the steps left take, or the time until the limit where that is less."""

    def render(self, task: Task) -> Text:
        limit_s, left = task.fields["limit_s"], task.time_remaining
        if limit_s is None or task.finished:
            return super().render(task)
        until = max(limit_s - (task.elapsed or 0.0), 0.0)
        seconds = round(until if left is None else min(left, until))
        return Text(str(timedelta(seconds=seconds)), style="progress.remaining")


class _BarTask(ProgressTask):
    def __init__(self, label: str, total: int, done: int, limit_s: float | None) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            _TimeLeft(),
            TextColumn("{task.fields[status]}"),
            console=Console(stderr=True),
        )
        self._id = self._bar.add_task(
            label, total=total, completed=done, status="", limit_s=limit_s
        )

    def __enter__(self) -> "_BarTask":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, steps: int = 1, status: str = "") -> None:
        self._bar.update(self._id, advance=steps, status=status)


class _LineTask(ProgressTask):
    def __init__(self, label: str, total: int, done: int, limit_s: float | None) -> None:
        self._label, self._total = label, total
        self._limit_s = math.inf if limit_s is None else limit_s
        self._begin_done = self._done = done
        self._begin = self._last = time.monotonic()
        self._status = ""

    def __enter__(self) -> "_LineTask":
        begun = f", {self._done} of them done before" if self._done else ""
        logger.info("%s: %d steps%s", self._label, self._total, begun)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            spent = time.monotonic() - self._begin
            status = f", {self._status}" if self._status else ""
            logger.info("%s: done in %s%s", self._label, duration(spent), status)

    def advance(self, steps: int = 1, status: str = "") -> None:
        self._done += steps
        self._status = status or self._status
        now = time.monotonic()
        if now - self._last < LINE_INTERVAL_S:
            return
        self._last = now
        spent = now - self._begin
        rate = (self._done - self._begin_done) / spent
        needed = (self._total - self._done) / rate if rate > 0 else math.inf
        seconds = min(needed, max(self._limit_s - spent, 0.0))
        left = duration(seconds) if math.isfinite(seconds) else "unknown time"
        tail = f", {self._status}" if self._status else ""
        logger.info("%s: %d/%d, %s left%s", self._label, self._done, self._total, left, tail)


def duration(seconds: float) -> str:
    """Return a time span in the words of a log line, such as ``2 min 05 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
