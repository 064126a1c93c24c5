"""The run-time type checker that tests put on every function of the package."""

from collections.abc import Callable
from typing import Any, Self, get_args, get_origin

from beartype import BeartypeConf, FrozenDict, beartype

# beartype understands Self only when it decorates the whole class, and here it sees functions.
_check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: object})))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Put beartype on a function; a class of some protocol is only checked to be a class.

    `type[SomeProtocol]` asks `issubclass`, which protocols with attributes do not answer.
    """
    for name, hint in list(function.__annotations__.items()):
        origin: Any = get_origin(hint)
        if origin is type and getattr(get_args(hint)[0], "_is_protocol", False):
            function.__annotations__[name] = type
    return _check(function)
