"""The one exception type for bad input.

The command line turns an `InputError` into one line and exit code 2; every other exception is a
defect of pictell and keeps its traceback.
"""


class InputError(ValueError):
    """Something the user gave cannot be used; the message names it and the way out."""


class MissingExtraError(InputError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed: "
            f'run  pip install "pictell[{extra}]"'
        )
