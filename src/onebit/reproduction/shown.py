"""What `onebit reproduce` shows on standard error while runs train: a bar for each in a terminal, else a line an epoch."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from onebit.reproduction.runs import Run


class Shown:
    """A context manager around the runs. quiet: nothing is shown."""

    def __init__(self, quiet: bool):
        self.console = Console(stderr=True, quiet=quiet)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Shown":
        self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def report(self, run: Run, epochs: int, words: str) -> None:
        """A run has done so many epochs; -1: it has failed."""
        if epochs < 0:
            self.say(f"{run.name}: {words}")
            return
        if run.name not in self.tasks:
            self.tasks[run.name] = self.bar.add_task(run.name, total=run.recipe.epochs, words="")
        self.bar.update(self.tasks[run.name], completed=epochs, words=words)
        if not self.console.is_terminal:
            self.say(f"{run.name}: epoch {epochs}/{run.recipe.epochs}  {words}" if epochs else f"{run.name}: started")

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
