"""The errors a user can cause; each says what must hold, what came, where, and how to fix it."""

import contextlib
import shlex
from collections.abc import Iterator
from typing import Final

_SIGNS: Final = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
"""In what torch raises where memory does not suffice, on a CPU and on other devices."""


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


@contextlib.contextmanager
def within_memory() -> Iterator[None]:
    """Say what to do where a model or its training does not fit into memory.

    Raises:
        TrainingError: it does not.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        cause = (str(error) or "out of memory").partition("\n")[0]
        if isinstance(error, RuntimeError) and not any(sign in cause for sign in _SIGNS):
            raise
        raise TrainingError(
            f"the model or its training does not fit into memory ({cause}); choose smaller sizes, "
            "such as train.batch_size, backbone.embedding_dim or n_codewords of aqcl"
        ) from error
