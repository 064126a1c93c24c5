"""Where the time of a real training step goes, item by item, forward and backward together.

The modules and functions of a step are wrapped so that the profiler names them. A gradient belongs
to the item whose operation made it: both carry the same sequence number.
"""

import contextlib
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from unittest import mock

from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from aqcl.layers import Dice, Dropout

if TYPE_CHECKING:
    from aqcl.batch import Batch
    from aqcl.train import Trainer

ITEM, STEP = "item: ", "one step"
GRADIENT = "autograd::engine::evaluate_function: "
REST = "rest of the step"
MICROSECOND = 1e-3
"""In milliseconds."""


def profiled(trainer: "Trainer", batches: Sequence["Batch"]) -> dict[str, dict[str, float]]:
    """Median milliseconds, operations and gradients of each item over these steps."""
    with named(trainer), profile(activities=[ProfilerActivity.CPU], acc_events=True) as trace:
        for batch in batches:
            with record_function(STEP):
                trainer.step(batch)
    steps = _by_step(trace.events())
    names = dict.fromkeys(name for step in steps for name in step)
    return {
        name: {
            key: statistics.median(step[name][key] if name in step else 0.0 for step in steps)
            for key in ("ms", "operations", "gradients")
        }
        for name in names
    }


@contextlib.contextmanager
def named(trainer: "Trainer") -> Iterator[None]:
    """Inside, the parts of a step carry the names of its items."""
    backbone: Any = trainer.objective.backbone
    kinds = {nn.Linear: "top: products", Dice: "top: Dice", Dropout: "top: dropout"}
    targets: list[tuple[Any, str, str]] = [
        (backbone.embeddings, "forward", "look-up and its gradient"),
        (backbone.attention, "forward", "attention unit"),
        (backbone.head, "forward", "head and logloss"),
        (nn.functional, "binary_cross_entropy_with_logits", "head and logloss"),
        *((layer, "forward", kinds[type(layer)]) for layer in backbone.top.layers),
        (trainer.optimizer, "step", "Adam"),
    ]
    for regularizer in trainer.objective.regularizers:
        targets += [
            (regularizer, "forward", "codebook"),
            (regularizer.projector, "forward", "projector"),
            (regularizer, "_contrast", "contrast"),
            (regularizer, "_assign", "assignment"),
        ]
    modules = [
        ("aqcl.backbones.din.weighted_sum", "pooling"),
        ("aqcl.regularizers.aqcl.augment", "view"),
        ("aqcl.optimizers.add_embedding_penalty", "penalty"),
    ]
    with contextlib.ExitStack() as stack:
        for owner, attribute, name in targets:
            wrapped = _recorded(getattr(owner, attribute), name)
            stack.enter_context(mock.patch.object(owner, attribute, wrapped))
        for place, name in modules:
            original = _found(place)
            stack.enter_context(mock.patch(place, _recorded(original, name)))
        yield


def _found(place: str) -> Callable[..., Any]:
    import importlib

    module, _, name = place.rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _recorded(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        with record_function(ITEM + name):
            return function(*arguments, **keywords)

    return wrapped


Item = dict[str, float]


def _by_step(events: Any) -> list[dict[str, Item]]:
    """Each step's items with their own time: what lies inside another item is that one's."""
    owners = _owners_of_gradients(events)
    steps: dict[int, dict[str, Item]] = {}
    for event in events:
        if event.name == STEP:
            steps.setdefault(event.id, _new_items())
            _add(steps[event.id], REST, event.time_range.elapsed_us())
            continue
        step = _outermost(event)
        if step is None:
            continue
        items = steps.setdefault(step.id, _new_items())
        took = event.time_range.elapsed_us()
        if event.name.startswith(GRADIENT):
            name = owners.get(event.sequence_nr, REST)
            _add(items, name, took)
            _add(items, _item_of(event.cpu_parent), -took)
            items[name]["gradients"] += 1
        elif event.name.startswith(ITEM):
            _add(items, event.name.removeprefix(ITEM), took)
            _add(items, _item_of(event.cpu_parent), -took)
        elif _is_call(event):
            items[_item_of(event)]["operations"] += 1
    return list(steps.values())


def _owners_of_gradients(events: Any) -> dict[int, str]:
    """The item by sequence number: the last operation before the number grows made the gradient."""
    owners: dict[int, str] = {}
    for event in sorted(events, key=lambda event: event.time_range.start):
        if event.sequence_nr >= 0 and not _in_backward(event):
            owners[event.sequence_nr] = _item_of(event)
    return owners


def _new_items() -> dict[str, Item]:
    return defaultdict(lambda: {"ms": 0.0, "operations": 0.0, "gradients": 0.0})


def _add(items: dict[str, Item], name: str, microseconds: float) -> None:
    items[name]["ms"] += microseconds * MICROSECOND


def _ancestors(event: Any) -> Iterator[Any]:
    while event is not None:
        yield event
        event = event.cpu_parent


def _outermost(event: Any) -> Any:
    return next((found for found in _ancestors(event) if found.name == STEP), None)


def _item_of(event: Any) -> str:
    names = (found.name for found in _ancestors(event))
    return next((name.removeprefix(ITEM) for name in names if name.startswith(ITEM)), REST)


def _in_backward(event: Any) -> bool:
    return any(found.name.startswith(GRADIENT) for found in _ancestors(event))


def _is_call(event: Any) -> bool:
    """Whether Python called this operation, as opposed to another operation."""
    parent = event.cpu_parent
    called = parent is None or parent.name == STEP or parent.name.startswith(ITEM)
    return called and not _in_backward(event)
