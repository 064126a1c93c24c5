"""What the paper's tables and figures are made of, read from the TOML files beside this module."""

import tomllib
from dataclasses import field
from importlib import resources
from typing import Any, Final, Literal

from aqcl.config import as_values, build, choose, settings
from aqcl.storage import fingerprint

CORNERS: Final[dict[str, dict[str, Any]]] = {
    "ids-frozen": {"fields": [], "negatives": {"train": "frozen"}},
    "ids-resampled": {"fields": [], "negatives": {"train": "resampled"}},
    "ids-clicked": {"fields": [], "negatives": {"train": "frozen", "train_items": "clicked"}},
    "attributes-frozen": {"negatives": {"train": "frozen"}},
    "attributes-resampled": {"negatives": {"train": "resampled"}},
    "all-users": {"fields": [], "negatives": {"train": "frozen"}, "user_share": 1.0},
}
"""Which fields models see, whether training negatives stay, and whether all users are there where
settings are tuned on some: settings of `prepare` by name."""
TUNED: Final = "ids-frozen"
"""The corner whose studies give the settings of all corners."""
WHOLE: Final = "all-users"
"""The corner of all users, where methods are tuned on some."""

Kind = Literal["counts", "activity", "comparisons", "alpha", "latents"]


@settings
class Tuning:
    """What some studies have in place of what all share."""

    experiment: dict[str, Any] = field(default_factory=dict)
    """Settings of their experiments."""
    search: dict[str, Any] = field(default_factory=dict)
    """Table `search`, without methods."""


@settings
class DatasetSpec:
    """One of the paper's data sets."""

    title: str
    """In headings."""
    paper_name: str
    """In the paper's tables."""
    paper_counts: dict[str, int]
    """`users`, `items` and `samples` of table 1."""
    source: dict[str, Any]
    """Table `source` of `prepare`."""
    prepare: dict[str, Any] = field(default_factory=dict)
    """Other settings of `prepare`."""
    quick: dict[str, Any] = field(default_factory=dict)
    """Settings of `prepare` in place of those above, for a quick look."""
    tuning: Tuning = Tuning()
    """What its studies have of their own."""
    note: str = ""
    """What a reader must know."""
    file_option: str | None = None
    """The option that names its file, if it cannot be had without."""

    @property
    def is_part(self) -> bool:
        """Whether methods are tuned on some of its users."""
        return float(self.prepare.get("user_share", 1.0)) < 1


@settings
class StudySpec:
    """The methods of one backbone."""

    backbone: dict[str, Any]
    """Table `backbone` of their experiments."""
    methods: dict[str, dict[str, Any]]
    """Table `search.methods` of the study."""


@settings
class StudiesSpec:
    """How every method is tuned."""

    experiment: dict[str, Any]
    """Settings of all experiments."""
    search: dict[str, Any]
    """Table `search` of all studies, without methods."""
    studies: dict[str, StudySpec]
    """By backbone; each method stands in one of them."""
    quick: Tuning
    """What those of a quick look have of their own."""

    def backbone_of(self, method: str) -> str:
        """Key of the backbone that a method is of."""
        owners = {m: name for name, study in self.studies.items() for m in study.methods}
        return choose(owners, method, "method")


@settings
class Claim:
    """A sentence of the paper that an interval can confirm or not."""

    text: str
    """The sentence."""
    method: str
    """What shall be better."""
    base: str
    """Than what."""
    group: str = "all"
    """For whom."""


@settings
class Variant:
    """A method with other settings."""

    name: str
    """Its label."""
    settings: dict[str, Any] = field(default_factory=dict)
    """By dotted key."""


@settings
class ComparisonSpec:
    """Methods on the same rows."""

    id: str
    """Name among the comparisons of an experiment."""
    title: str
    """What differs."""
    base: str
    """The label that the others are held against."""
    datasets: tuple[str, ...] | None = None
    """On which; those of the experiment if not given."""
    corner: str = TUNED
    """Which fields and negatives."""
    methods: tuple[str, ...] = ()
    """Labels of the studies."""
    of: str | None = None
    """The method that the variants are of."""
    variants: tuple[Variant, ...] = ()
    """Compared with each other in place of methods."""
    beside: tuple[str, ...] = ()
    """Methods beside the variants."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Set in all of them, by dotted key."""
    claims: tuple[Claim, ...] = ()
    """What the paper says of it."""
    paper: dict[str, dict[str, tuple[float, ...]]] = field(default_factory=dict)
    """The paper's AUCs by its names of data sets and by method: of all users, and of the groups."""

    @property
    def fingerprint(self) -> str:
        """What tells it from a comparison of other methods or settings that had the same id."""
        values = as_values(self)
        kept = ("base", "corner", "methods", "of", "variants", "beside", "settings")
        return fingerprint({key: values[key] for key in kept if key in values})[:16]


@settings
class ExperimentSpec:
    """A table or figure of the paper."""

    title: str
    """What it shows."""
    kind: Kind
    """What is made of it besides comparisons."""
    datasets: tuple[str, ...]
    """Keys of the data sets."""
    comparisons: tuple[ComparisonSpec, ...] = ()
    """What is compared."""
    tunes: tuple[str, ...] = ()
    """Methods whose study is needed beside the comparisons."""
    trains: tuple[str, ...] = ()
    """Methods that must be trained beside the comparisons."""
    paper_says: str = ""
    """The paper's statement where it prints no numbers."""


@settings
class Specs:
    """Everything that is reproduced."""

    datasets: dict[str, DatasetSpec]
    """By key."""
    studies: StudiesSpec
    """How methods are tuned."""
    experiments: dict[str, ExperimentSpec]
    """By name, in the order of the paper."""


def load_specs() -> Specs:
    """The specifications that come with the package."""
    files = resources.files("aqcl.reproduce")
    tables = {
        name: tomllib.loads(files.joinpath(f"{name}.toml").read_text(encoding="utf-8"))
        for name in ("datasets", "studies", "experiments")
    }
    return build(Specs, tables, "specifications")
