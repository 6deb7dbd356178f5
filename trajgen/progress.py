"""Progress as an object that is passed in: long work reports to it and knows no terminal."""

from types import TracebackType


class ProgressTask:
    """One piece of work with a known number of steps; this base class reports to nobody."""

    def __enter__(self) -> "ProgressTask":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the task."""

    def advance(self, steps: int = 1, status: str = "") -> None:
        """Report ``steps`` more done; ``status`` is a few words such as the current loss."""


class Progress:
    """Makes tasks; this base class is silent and the default everywhere."""

    def task(
        self, label: str, total: int, done: int = 0, limit_s: float | None = None
    ) -> ProgressTask:
        """Begin a piece of work of ``total`` steps, of which ``done`` are done already.

        It ends after ``limit_s`` seconds at the latest, however many steps are left then.
        """
        return ProgressTask()


SILENT = Progress()
