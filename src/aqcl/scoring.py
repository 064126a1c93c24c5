"""A model applied to a split of a dataset."""

import logging
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from aqcl.config import build
from aqcl.contracts import Backbone, Facts, Predictor, Reader, Regularizer
from aqcl.dataset import Dataset, Split
from aqcl.errors import ConfigError
from aqcl.experiment import Experiment, find_backbone, find_regularizer
from aqcl.predictions import Predictions
from aqcl.readers import is_read, with_readers
from aqcl.spill import Spill
from aqcl.streams import derive_seed

logger = logging.getLogger(__name__)

SCORING_BATCH_SIZE = 1024
"""Rows scored at once: on a CPU more take more memory and no less time."""


def facts_of(dataset: Dataset, experiment: Experiment) -> Facts:
    """What a model may know of a dataset, restricted to the fields the experiment uses.

    Raises:
        ConfigError: the experiment names a field that the dataset does not have.
    """
    schema = dataset.schema
    if experiment.fields is not None:
        known = {field.name for field in schema.fields}
        unknown = set(experiment.fields) - known
        if unknown:
            raise ConfigError(
                f"fields: {', '.join(sorted(unknown))} not in {dataset.path}; "
                f"its fields are: {', '.join(sorted(known)) or 'none'}"
            )
        schema = schema.select(experiment.fields)
    return Facts(schema, dataset.attributes, dataset.mean_activity, experiment.train.max_history)


def build_backbone(experiment: Experiment, facts: Facts) -> nn.Module:
    """A new backbone with the seed's initial weights."""
    torch.manual_seed(derive_seed(experiment.seed, "backbone init"))
    cls = find_backbone(experiment.backbone["name"])
    options = {key: value for key, value in experiment.backbone.items() if key != "name"}
    made = cls.create(facts, build(cls.Options, options, "backbone"))
    return _promised(made, Backbone, experiment.backbone["name"])


def build_regularizer(
    experiment: Experiment, name: str, facts: Facts, backbone: nn.Module
) -> nn.Module:
    """A new regularizer of the experiment with the seed's initial weights."""
    assert isinstance(backbone, Backbone)
    # Each starts the stream anew, so that one cannot shift another's initial weights.
    torch.manual_seed(derive_seed(experiment.seed, "regularizer init"))
    cls = find_regularizer(name)
    options: object = build(cls.Options, experiment.regularizer[name], f"regularizer.{name}")
    return _promised(cls.create(facts, backbone, options), Regularizer, name)


def _promised(made: object, contract: type, name: str) -> nn.Module:
    """A part that was made, with all that its contract has: one from outside may lack something.

    Raises:
        ConfigError: it is no module, or an attribute is missing.
    """
    lacks = [key for key in contract.__annotations__ if not hasattr(made, key)]
    if not isinstance(made, nn.Module) or lacks:
        what = f"an attribute {', '.join(lacks)}" if lacks else "torch.nn.Module as its base"
        raise ConfigError(
            f"'{name}' makes a {contract.__name__} without {what}; set it in __init__, see "
            "aqcl.contracts"
        )
    return made


def load_backbone(experiment: Experiment, facts: Facts, weights: Mapping[str, Tensor]) -> nn.Module:
    """The backbone of a run with its trained weights, and the regularizers that it reads if any."""
    backbone = build_backbone(experiment, facts)
    backbone.load_state_dict(_below("backbone.", weights))
    readers = []
    for number, name in enumerate(experiment.regularizer):
        if issubclass(find_regularizer(name), Reader):
            regularizer = build_regularizer(experiment, name, facts, backbone)
            if is_read(regularizer):
                regularizer.load_state_dict(_below(f"regularizers.{number}.", weights))
                readers.append(regularizer)
    return with_readers(backbone, readers)


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)}


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is one.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"runtime.device = '{name}': expected cpu, cuda, cuda:N or auto")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        beyond = f" beyond cuda:{count - 1}" if count else ""
        raise ConfigError(
            f"runtime.device = '{name}': torch finds no CUDA device{beyond} here; use cpu or auto"
        )
    return device


def scoring_device(name: str) -> torch.device:
    """The device of that name, or one that is here: a run may be scored where it was not trained.

    Args:
        name: the device that the run was trained on.
    """
    try:
        return pick_device(name)
    except ConfigError:
        device = pick_device("auto")
        logger.info("runtime.device = '%s' is not here: scored on %s", name, device)
        return device


@torch.no_grad()
def score(model: nn.Module, split: Split, max_history: int, device: torch.device) -> Predictions:
    """Predicted click probability of every row of a split, in its order."""
    assert isinstance(model, Predictor)
    was_training = model.training
    model.eval()
    scores = Spill(np.float64)
    for batch in split.batches(SCORING_BATCH_SIZE, max_history):
        embedded = model.embed(batch.to(device))
        logit = model.predict(model.encode(embedded), embedded)
        scores.append(torch.sigmoid(logit.double()).cpu().numpy())
    model.train(was_training)
    return Predictions(
        user=split.columns["user"],
        item=split.columns["item"],
        label=split.columns["label"],
        activity=split.columns["history_length"],
        score=scores.array(),
    )
