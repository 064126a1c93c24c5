"""Reads the latent of any torch model, and makes a view of it by perturbing its embeddings.

Hooks are on the model only while it is being run here; at all other times it is exactly what its
author wrote.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.hooks import RemovableHandle

from aqcl.config import choose
from aqcl.errors import ConfigError
from aqcl.layers import dropout_mask, statistics_held
from aqcl.views import ViewOptions

Side = Literal["input", "output"]


@dataclass(frozen=True)
class End:
    """Where the latent is: one end of a module."""

    side: Side
    name: str
    module: nn.Module

    def __str__(self) -> str:
        return f"latent = '{self.side}:{self.name}'"

    def width(self, given: int | None) -> int:
        """Width of the latent, from the module if it tells, else as given."""
        known = 0
        if isinstance(self.module, nn.Linear):
            linear = self.module
            known = linear.in_features if self.side == "input" else linear.out_features
        if known:  # an nn.LazyLinear has no width yet: 0
            if given not in (None, known):
                raise ConfigError(f"latent_dim = {given}: {self} is {known} wide; leave it out")
            return known
        if given is None:
            kind = type(self.module).__name__
            raise ConfigError(
                f"{self}: a {kind} does not tell its width: give latent_dim, or name the nn.Linear "
                f"that takes the latent as its input"
            )
        return given


def find_end(modules: Mapping[str, nn.Module], latent: str) -> End:
    """The end that `input:MODULE` or `output:MODULE` names."""
    side, _, name = latent.partition(":")
    if side == "input":
        return End("input", name, choose(modules, name, "latent"))
    if side == "output":
        return End("output", name, choose(modules, name, "latent"))
    raise ConfigError(f"latent = '{latent}': expected 'input:MODULE' or 'output:MODULE'")


@dataclass
class Table:
    """An embedding module and what happens to its outputs in a view."""

    name: str
    module: nn.Module
    bits: bool = False
    steps: set[int] = field(default_factory=set)
    """Which calls of a forward pass lose steps, from 1; 0 stands for all."""


def find_tables(
    modules: Mapping[str, nn.Module], embeddings: Sequence[str], history: Sequence[str]
) -> list[Table]:
    """The named modules, each once, whatever number of names it has."""
    tables: dict[int, Table] = {}
    for name in embeddings:
        module = choose(modules, name, "embeddings")
        tables.setdefault(id(module), Table(name, module)).bits = True
    for given in history:
        name, mark, number = given.rpartition("#")
        positioned = given not in modules and mark == "#" and number.isdecimal()
        name, call = (name, int(number)) if positioned else (given, 0)
        if positioned and call == 0:
            raise ConfigError(f"history = '{given}': calls are counted from 1, as in '{name}#1'")
        module = choose(modules, name, "history")
        tables.setdefault(id(module), Table(name, module)).steps.add(call)
    return list(tables.values())


class View:
    """What one view pass does to the outputs of the tables."""

    def __init__(self, options: ViewOptions, seed: int) -> None:
        self.options = options
        self.seed = seed
        self.calls: Counter[str] = Counter()
        self.masked: Counter[str] = Counter()
        self.generators: dict[torch.device, Generator] = {}
        self.keeps: dict[tuple[torch.Size, torch.device], tuple[Tensor, Tensor]] = {}
        """By shape of a history: what was drawn for its steps, and which of them stay."""
        self.made: list[Node | None] = []
        """What made each output as it was passed on; None where gradients do not tell."""

    def perturb(self, table: Table, output: object) -> Tensor:
        """The output of one call of a table, with steps and bits zeroed."""
        self.calls[table.name] += 1
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise ConfigError(
                f"'{table.name}' gave a {type(output).__name__}, not a tensor of vectors: name the "
                f"embedding modules inside it"
            )
        if output.device not in self.generators:
            generator = Generator(output.device).manual_seed(self.seed)
            self.generators[output.device] = generator
        generator = self.generators[output.device]
        if table.steps & {0, self.calls[table.name]} and output.dim() == 3:
            self.masked[table.name] += 1
            # NOTE[DIFF]: in a model of another library a masked click stays as a zero vector, where
            # the paper takes it out of the history.
            output = output * self._keep(output, generator)[:, :, None].to(output.dtype)
        if table.bits and self.options.bit_rate > 0:
            output = output * dropout_mask(output, self.options.bit_rate, generator)
        self.made.append(output.grad_fn)
        return output

    def _keep(self, output: Float[Tensor, "B L d"], generator: Generator) -> Bool[Tensor, "B L"]:
        """Which steps stay: the same for all tables, as the fields of a click go together.

        Another history of the same length has its clicks elsewhere; where it would lose them all,
        it keeps one of its own as well.
        """
        key = (output.shape[:2], output.device)
        if key not in self.keeps:
            draw = torch.rand(output.shape[:2], generator=generator, device=output.device)
            self.keeps[key] = draw, draw >= self.options.mask_rate
        draw, keep = self.keeps[key]
        self.keeps[key] = draw, kept_steps(output.detach(), draw, keep)
        return self.keeps[key][1]

    def check(self, tables: Sequence[Table]) -> None:
        """After the pass: whether each table had its effect."""
        for table in tables:
            calls, last = self.calls[table.name], max(table.steps, default=0)
            if calls == 0:
                raise ConfigError(
                    f"'{table.name}' was not called in the forward pass: name modules that are"
                )
            if last > calls:
                raise ConfigError(
                    f"history = '{table.name}#{last}': it was called only {calls} time(s) in the "
                    f"forward pass"
                )
            if table.steps and not self.masked[table.name]:
                raise ConfigError(
                    f"history = '{table.name}': none of its outputs was of the shape (B, L, d)"
                )


def kept_steps(
    vectors: Float[Tensor, "B L d"], draw: Float[Tensor, "B L"], keep: Bool[Tensor, "B L"]
) -> Bool[Tensor, "B L"]:
    """The steps `keep`, and that of the highest draw in each row that would lose all its clicks.

    A step is padding, and not a click, if its vector is zero, as torch makes it for `padding_idx`.
    """
    if vectors.shape[1] == 0:
        return keep
    click = (vectors != 0).any(2)
    highest = draw.masked_fill(~click, -1.0).argmax(1, keepdim=True)
    lost = click.any(1, keepdim=True) & ~(keep & click).any(1, keepdim=True)
    return keep.scatter(1, highest, keep.gather(1, highest) | lost)


@contextmanager
def norms_held(model: nn.Module) -> Iterator[None]:
    """Inside, batch and instance normalisation in training use the batch and update nothing."""
    active = [m for m in model.modules() if m.training]
    norms = [m for m in active if isinstance(m, _BatchNorm) and m.track_running_stats]
    # These update what they are told not to track: it is not there meanwhile.
    instances = [m for m in active if isinstance(m, _InstanceNorm)]
    kept = [(m.running_mean, m.running_var) for m in instances]
    for norm in norms:
        norm.track_running_stats = False
    for instance in instances:
        instance.running_mean = instance.running_var = None
    try:
        with statistics_held(model):
            yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for instance, (mean, var) in zip(instances, kept, strict=True):
            instance.running_mean, instance.running_var = mean, var


def behind(node: Node) -> Iterator[Node]:
    """The steps of a computation from its last one back, each once."""
    found, left = {node}, [node]
    while left:
        node = left.pop()
        yield node
        for before, _ in node.next_functions:
            if before is not None and before not in found:
                found.add(before)
                left.append(before)


def copied(value: object) -> object:
    """What a tensor is now: a later layer may change it in place."""
    return value.clone() if isinstance(value, Tensor) else value


class Probe:
    """A model with the places to read and to perturb; no module, so it registers no parameter."""

    def __init__(self, model: nn.Module, end: End, tables: list[Table]) -> None:
        self.model = model
        self.end = end
        self.tables = tables
        self.leads = False
        """Whether it was seen that a perturbed output leads to the latent."""

    def run(
        self, inputs: tuple[Any, ...], named: dict[str, Any], view: View | None = None
    ) -> tuple[Any, Float[Tensor, "B D"]]:
        """A forward pass: the model's output and the latent."""
        seen: list[object] = []
        with ExitStack() as hooks:
            hooks.callback(self._read_latent(seen).remove)
            if view is not None:
                hooks.enter_context(norms_held(self.model))
                for table in self.tables:
                    hooks.callback(self._perturb(table, view).remove)
            output = self.model(*inputs, **named)
        latent = self._latent(seen)
        if view is not None:
            view.check(self.tables)
            self._check_effect(latent, view.made)
        return output, latent

    def _check_effect(self, latent: Tensor, made: Sequence[Node | None]) -> None:
        """Once, where gradients can tell it: whether the view is not the sample itself."""
        if self.leads or latent.grad_fn is None or None in made:
            return
        self.leads = any(node in made for node in behind(latent.grad_fn))
        if not self.leads:
            names = ", ".join(f"'{table.name}'" for table in self.tables)
            raise ConfigError(
                f"{names}: none of their outputs leads to {self.end}, so that the view would be "
                "the sample itself: name the embedding modules that the latent is made of"
            )

    def _read_latent(self, seen: list[object]) -> RemovableHandle:
        module = self.end.module
        if self.end.side == "output":
            return module.register_forward_hook(lambda m, args, output: seen.append(copied(output)))

        def read(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen.append(copied(next(iter((*args, *named.values())), None)))

        return module.register_forward_pre_hook(read, with_kwargs=True)

    def _perturb(self, table: Table, view: View) -> RemovableHandle:
        return table.module.register_forward_hook(
            lambda module, args, output: view.perturb(table, output)
        )

    def _latent(self, seen: list[object]) -> Float[Tensor, "B D"]:
        if len(seen) != 1:
            raise ConfigError(
                f"{self.end}: '{self.end.name}' was called {len(seen)} times in the forward pass; "
                f"name a module that is called once"
            )
        (latent,) = seen
        if not isinstance(latent, Tensor) or latent.dim() != 2 or not latent.is_floating_point():
            shape = tuple(latent.shape) if isinstance(latent, Tensor) else type(latent).__name__
            raise ConfigError(f"{self.end}: expected floats of shape (B, D), got {shape}")
        return latent
