"""What a training run is made of: one typed TOML file."""

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field as Bounds

from aqcl.backbones import BACKBONES
from aqcl.config import as_values, build, choose, settings
from aqcl.contracts import Backbone, Regularizer
from aqcl.errors import ConfigError
from aqcl.regularizers import REGULARIZERS

DEFAULT_BACKBONE: Final = "din"

Monitor = Literal["auc", "logloss"]
Optimizer = Literal["adam", "lazy_adam", "rowwise_adagrad"]
P = TypeVar("P")


@settings
class TrainOptions:
    """How a model is trained; algorithm 1 of the paper."""

    epochs: Annotated[int, Bounds(ge=1)] = 100
    """Most passes over the training rows; early stopping usually ends sooner."""
    batch_size: Annotated[int, Bounds(ge=1)] = 1024
    """Rows per step; an epoch is cut into nearly equal batches of at most this many."""
    lr: Annotated[float, Bounds(gt=0)] = 1e-3
    """Learning rate of Adam."""
    optimizer: Optimizer = "adam"
    """What updates the id and attribute tables: `adam` all rows in every step, as in the paper;
    `lazy_adam` and `rowwise_adagrad` only the rows of the batch, for millions of users. All other
    parameters have Adam."""
    table_lr: Annotated[float, Bounds(gt=0)] = 0.02
    """Learning rate of `rowwise_adagrad`; `lazy_adam` has `lr`."""
    embedding_l2: Annotated[float, Bounds(ge=0)] = 2e-3
    """lambda of the penalty (lambda / 2) * sum of squares of all id and attribute tables; under
    `lazy_adam` and `rowwise_adagrad` of the rows of the batch alone, which needs its own tuning."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the products of matrices in training; `bf16` is quicker where the processor has it, and
    another method. Weights, logloss, scores, DIN's attention and the choice of codewords are fp32
    in both, and so are the sums of all losses over a batch."""
    max_history: Annotated[int, Bounds(ge=1, le=2**31 - 1)] = 50
    """Latest clicks that a sample sees; its activity counts all."""
    evaluations_per_epoch: Annotated[int, Bounds(ge=1)] = 2
    """How often the validation rows are scored; a checkpoint is written each time."""
    patience: Annotated[int, Bounds(ge=1)] = 10
    """Evaluations without a better validation score before training stops; should outlast a
    standstill of several epochs."""
    monitor: Monitor = "auc"
    """What decides which weights are kept: the highest `auc` or the lowest `logloss`."""


@settings
class RuntimeOptions:
    """Where a run executes; not part of what it computes, apart from the thread count."""

    device: str = "cpu"
    """`cpu`, `cuda`, `cuda:1`, or `auto`: CUDA where there is one. A run may be scored on a machine
    without the device that it was trained on."""
    threads: Annotated[int, Bounds(ge=0)] = 0
    """CPU threads that the command line gives torch; 0 takes OMP_NUM_THREADS where it is set, else
    one per core. Results repeat bit for bit for the same number. A program of your own calls
    `torch.set_num_threads`."""
    wait_policy: Literal["auto", "active", "passive"] = "auto"
    """Whether idle threads spin (a little faster on a free machine) or sleep after a brief wait
    (much faster on a busy one); `auto` looks at the load when the command starts."""
    deterministic: bool = False
    """On CUDA: only deterministic kernels, so that runs repeat bit for bit; slower."""


@settings
class Experiment:
    """A dataset, a backbone, regularizers and how to train them."""

    dataset: str
    """A dataset directory made by `aqcl prepare`."""
    name: str = ""
    """Label in tables; runs that differ only by seed share it."""
    seed: Annotated[int, Bounds(ge=0)] = 0
    """Seeds initial weights, batch order, dropout, views and resampled negatives."""
    fields: tuple[str, ...] | None = None
    """Attribute columns that the model sees; all of the dataset's if not given."""
    backbone: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": DEFAULT_BACKBONE})
    """`name` (or an import path such as `my_package.models:MyNet`) and its options; `din` where no
    name is given."""
    regularizer: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """A table for each regularizer, by name or import path, with its options."""
    train: TrainOptions = dataclasses.field(default_factory=TrainOptions)
    """How it is trained."""
    runtime: RuntimeOptions = dataclasses.field(default_factory=RuntimeOptions)
    """Where it runs."""

    @property
    def label(self) -> str:
        """The name, or one made of backbone and regularizers."""
        active = [name for name, options in self.regularizer.items() if options.get("weight") != 0]
        return self.name or "+".join([str(self.backbone["name"]), *active])


def resolve(values: Mapping[str, Any]) -> Experiment:
    """Check an experiment and fill in every default, those of the parts included.

    Raises:
        ConfigError: all problems, one line each.
    """
    problems: list[str] = []
    experiment: Experiment | None = None
    values = _with_tables(values, problems)
    try:
        experiment = build(Experiment, values)
    except ConfigError as error:
        problems.append(str(error))
    backbone = _resolved_table({"name": DEFAULT_BACKBONE, **values.get("backbone", {})}, problems)
    regularizers = {}
    for name, table in values["regularizer"].items():
        try:
            options: object = build(find_regularizer(name).Options, table, f"regularizer.{name}")
            regularizers[name] = as_values(options)
        except ConfigError as error:
            problems.append(str(error))
    if problems or experiment is None:
        raise ConfigError("\n".join(problems))
    return dataclasses.replace(experiment, backbone=backbone, regularizer=regularizers)


def _with_tables(values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """The values without what stands where the backbone or a regularizer has a table."""
    kept = dict(values)
    backbone, tables = kept.get("backbone", {}), kept.get("regularizer", {})
    if not isinstance(backbone, Mapping):
        del kept["backbone"]
        fix = f'set its name, as backbone.name = "{backbone}"'
        problems.append(f"backbone: expected a table, got {backbone!r}; {fix}")
    if not isinstance(tables, Mapping):
        problems.append(_no_table("regularizer", tables, meant=tables))
        tables = {}
    kept["regularizer"] = {}
    for name, table in tables.items():
        if isinstance(table, Mapping):
            kept["regularizer"][name] = table
        else:
            # As with the backbone, a name may have been given in place of a table.
            meant = table if name == "name" else name
            problems.append(_no_table(f"regularizer.{name}", table, meant))
    return kept


def _no_table(where: str, value: object, meant: object) -> str:
    return (
        f"{where}: expected a table for each, got {value!r}; write [regularizer.{meant}] with "
        f"its options, or --set regularizer.{meant}.weight=0.1"
    )


def _resolved_table(table: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    if not isinstance(table["name"], str):
        wanted = f'the name of a backbone, such as "{DEFAULT_BACKBONE}"'
        problems.append(f"backbone.name: expected {wanted}, got {table['name']!r}")
        return {}
    options = {key: value for key, value in table.items() if key != "name"}
    try:
        cls = find_backbone(table["name"])
        return {"name": table["name"], **as_values(build(cls.Options, options, "backbone"))}
    except ConfigError as error:
        problems.append(str(error))
        return {}


def find_backbone(name: str) -> type[Backbone]:
    """A backbone class by its name in the table or by import path.

    Raises:
        ConfigError: there is none.
    """
    if ":" in name:
        return _imported(name, Backbone)  # type: ignore[type-abstract]
    return choose(BACKBONES, name, "backbone.name")


def find_regularizer(name: str) -> type[Regularizer]:
    """A regularizer class by its name in the table or by import path.

    Raises:
        ConfigError: there is none.
    """
    if ":" in name:
        return _imported(name, Regularizer)  # type: ignore[type-abstract]
    return choose(REGULARIZERS, name, "regularizer")


def _imported(path: str, contract: type[P]) -> type[P]:
    module_name, _, class_name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # whatever the module does when it is imported
        lost = isinstance(error, ModuleNotFoundError)
        where = "; name its directory in PYTHONPATH, such as PYTHONPATH=. for this one"
        told = f"{type(error).__name__}: {error}"
        raise ConfigError(f"'{path}' cannot be imported: {told}{where * lost}") from error
    methods = [
        name
        for part in reversed(contract.__mro__)
        if getattr(part, "_is_protocol", False)
        for name in vars(part)
        if not name.startswith("_")
    ]
    missing = [name for name in ("Options", *methods) if not hasattr(found, name)]
    if not isinstance(found, type) or missing:
        raise ConfigError(
            f"'{path}' is not a {contract.__name__}: expected a class with "
            f"{', '.join(missing or methods)}; see aqcl.contracts"
        )
    options: type = getattr(found, "Options", object)
    # One with keys of its own that inherits what reads them would not know these.
    if inspect.get_annotations(options) and "__pydantic_fields__" not in vars(options):
        raise ConfigError(
            f"'{path}': expected options decorated with aqcl.config.settings, got the plain class "
            f"{options.__name__}"
        )
    return found


def method_settings(experiment: Experiment) -> dict[str, Any]:
    """What decides the numbers of a run, seed apart: equal for the seeds of one configuration."""
    values = as_values(experiment)
    for key in ("name", "seed", "dataset"):
        values.pop(key, None)
    values["runtime"] = {}
    return values


def own_settings(experiment: Experiment) -> dict[str, Any]:
    """The settings of method and training that are no defaults, or have none, as nested tables.

    The names of the backbone and of the regularizers always are among them.
    """
    backbone = {key: value for key, value in experiment.backbone.items() if key != "name"}
    name = experiment.backbone["name"]
    own: dict[str, Any] = {
        "backbone": {"name": name, **own_options(find_backbone(name).Options, backbone)}
    }
    if experiment.regularizer:
        own["regularizer"] = {
            key: own_options(find_regularizer(key).Options, table)
            for key, table in experiment.regularizer.items()
        }
    train = own_options(TrainOptions, as_values(experiment.train))
    return {**own, "train": train} if train else own


def own_options(cls: type[Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """What of a table of options is no default, or has none.

    Args:
        cls: the options.
        table: all of them, as plain values.
    """
    required = {
        option.name: table[option.name]
        for option in dataclasses.fields(cls)
        if option.default is dataclasses.MISSING and option.default_factory is dataclasses.MISSING
    }
    return {**required, **_differences(table, as_values(build(cls, required, "options")))}


def _differences(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What is otherwise in the values than in the defaults."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            own = _differences(value, default)
            if own:
                found[key] = own
        elif value != default:
            found[key] = value
    return found
