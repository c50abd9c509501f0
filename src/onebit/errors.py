"""The errors that a user can cause. Each message names the offending value and says what to do."""

from typing import Any


class UserError(ValueError):
    """A value given by the user cannot be used: an option, an array, a path."""


class FormatError(UserError):
    """A file is not a valid onebit file (see docs/format.md)."""


class Incomplete(UserError):
    """Some of many inputs cannot be used. The others were: the command prints `result` (JSON) or `text` all the same."""

    def __init__(self, message: str, result: dict[str, Any], text: str = ""):
        super().__init__(message)
        self.result, self.text = result, text


class Stopped(KeyboardInterrupt):
    """A signal ended a training that continues with --resume. The message is empty on ranks other than 0."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.code = 128 + number  # of the shell's convention: 143 for SIGTERM, 130 for SIGINT
