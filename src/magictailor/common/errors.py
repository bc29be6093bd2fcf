"""The errors that users see as one line instead of a traceback."""

from collections.abc import Collection


class InputError(ValueError):
    """Bad input: what is wrong, how to fix it, and which argument it is about. The command line exits with code 2.

    Args:
        problem: begins with the value, for instance ``"runs/a: exists and is not a run"``.
        fix: what to do, for instance ``"choose a new folder"``.
        field: the argument's name in the Python function, for instance ``"output"``; empty where the problem names a
            file. The command line writes its own flag instead.
    """

    def __init__(self, problem: str, fix: str = "", *, field: str = "") -> None:
        super().__init__(problem, fix, field)
        self.problem, self.fix, self.field = problem, fix, field

    def line(self, spelling: str) -> str:
        """The message with the argument spelled like this."""
        return " ".join(filter(None, (spelling, "; ".join(filter(None, (self.problem, self.fix))))))

    def about(self, field: str) -> "InputError":
        """The same problem with another argument."""
        return InputError(self.problem, self.fix, field=field)

    def __str__(self) -> str:
        return self.line(self.field)


def check_choice(value: str, choices: Collection[str], field: str) -> None:
    """Raises InputError for a value that is none of the choices."""
    if value not in choices:
        raise InputError(f"{value}: unknown", f"choose one of {', '.join(choices)}", field=field)


class RunError(RuntimeError):
    """A run that cannot continue (non-finite loss, full disk). The command line exits with code 1."""


class RunStopped(RunError):
    """A run that stopped because another process asked for it. The command line exits with code 130, as after Ctrl-C."""
