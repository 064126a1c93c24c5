"""Which regularizers have an alpha, and which settings a trial would draw for nothing."""

from collections.abc import Mapping
from typing import Any

from aqcl.experiment import Experiment, find_regularizer
from aqcl.regularizers.aqcl import AQCL
from aqcl.search.space import end_values, regularizer_key, regularizer_name


def alpha_names(experiment: Experiment) -> list[str]:
    """The active regularizers that have an alpha."""
    return active_names(experiment, AQCL)


def active_names(experiment: Experiment, *kinds: type) -> list[str]:
    """The regularizers of some kinds whose weight is not 0."""
    return [
        name
        for name, options in experiment.regularizer.items()
        if options["weight"] > 0 and issubclass(find_regularizer(name), kinds)
    ]


def has_curve(experiment: Experiment, name: str) -> bool:
    """Whether a regularizer's alpha is the curve, which alone reads `w1` and `w2`."""
    options = experiment.regularizer[name]
    return options["alpha"] == "curve" and options.get("constant_alpha") is None


def idle_keys(experiment: Experiment, searched: Mapping[str, Any]) -> dict[str, str]:
    """What is drawn and read in no trial, and why.

    Options of regularizers whose weight is 0; `w1` and `w2` where alpha is not the curve.

    Args:
        experiment: with the fixed values of its space, before others are drawn.
        searched: the ranges and choices by key.
    """
    idle = dict[str, str]()
    for name, options in experiment.regularizer.items():
        prefix = regularizer_key(name)
        if options["weight"] == 0 and f"{prefix}.weight" not in searched:
            own = [key for key in searched if regularizer_name(key) == name]
            idle |= dict.fromkeys(own, f"the weight of {name} is 0")
        elif issubclass(find_regularizer(name), AQCL) and not _may_be_curve(
            options, searched, name
        ):
            idle |= dict.fromkeys((f"{prefix}.w1", f"{prefix}.w2"), "alpha is not the curve")
    return {key: why for key, why in idle.items() if key in searched}


def _may_be_curve(options: Mapping[str, Any], searched: Mapping[str, Any], name: str) -> bool:
    """Whether the alpha of a regularizer is the curve in some trial."""
    prefix = regularizer_key(name)
    if options.get("constant_alpha") is not None or f"{prefix}.constant_alpha" in searched:
        return False
    drawn = searched.get(f"{prefix}.alpha")
    return "curve" in (end_values(drawn) if drawn is not None else [options["alpha"]])
