"""The errors a user can cause; each says what must hold, what came, where, and how to fix it."""

import shlex


class AqclError(Exception):
    """A mistake in what the user gave; the command line prints it and exits with code 2."""


class ConfigError(AqclError):
    """A setting that is unknown, missing, of the wrong type or out of range."""


class DataError(AqclError):
    """Raw data that cannot be turned into a dataset."""


class StorageError(AqclError):
    """A dataset or run directory that is missing, incomplete, damaged or of another version."""


class TrainingError(AqclError):
    """A training run that cannot go on, such as one whose loss is no longer finite."""


def command(*words: object) -> str:
    """A command as it can be copied into a shell, whatever its paths are called."""
    return shlex.join(str(word) for word in words)
