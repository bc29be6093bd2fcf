"""The two errors that users see as one line instead of a traceback."""


class InputError(ValueError):
    """Bad input from the user: one clear line that contains the fix. The CLI exits with code 2."""


class RunError(RuntimeError):
    """A run that cannot go on (non-finite loss, full disk). The CLI exits with code 1."""
