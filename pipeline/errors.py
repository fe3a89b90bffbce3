"""The two families of errors that the command line turns into a sentence and an exit code."""


class InputError(ValueError):
    """What was given (a setting, a file, a cluster) is not as it must be; the message is a sentence for its giver."""


class FailedError(RuntimeError):
    """What was given was right, and it went wrong on the way."""
