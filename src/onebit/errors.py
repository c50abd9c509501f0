"""The errors that a user can cause. Each message names the offending value and says what to do."""


class UserError(ValueError):
    """A value given by the user cannot be used: an option, an array, a path."""


class FormatError(UserError):
    """A file is not a valid onebit file (see docs/format.md)."""
