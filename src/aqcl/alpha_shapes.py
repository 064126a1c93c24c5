"""Shapes of alpha, the free parameters by which a gradient can move each, how they are sought."""

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import torch
from jaxtyping import Float
from pydantic import Field as Bounds
from torch import Tensor

from aqcl.activity import alpha, curve_alpha, group_alpha, spline_alpha
from aqcl.config import settings
from aqcl.errors import ConfigError

Kind = Literal["curve", "groups", "spline"]

W1_RANGE: Final = (0.05, 5.0)
"""Where w1 is looked for."""
W2_RANGE: Final = (0.2, 5.0)
"""Where w2 is looked for."""
LOGIT_LIMIT: Final = 7.0
"""Learned alphas and their ratios stay between the sigmoids of -7 and 7, about 0.001 and 0.999:
beyond, their gradients vanish and they would never come back."""


@settings
class AlphaLearning:
    """How alpha is learned during training, by the gradient of the validation loss."""

    enabled: bool = False
    """Whether alpha is learned, from the values that the options give; else it stays there."""
    every: Annotated[int, Bounds(ge=1)] = 10
    """Training steps between two updates of alpha; each costs about three passes."""
    lr: Annotated[float, Bounds(gt=0)] = 0.02
    """Learning rate of Adam on the free parameters: log w1 and log w2, or logits."""


@settings
class HalvingOptions:
    """How candidates for w1 and w2 are halved."""

    n_candidates: Annotated[int, Bounds(ge=2)] = 8
    """The w1 and w2 of the experiment, and quasi-random points of the space for the rest."""
    budget: Annotated[float, Bounds(gt=1)] = 2.0
    """Training rows of the search and of one training with its winner, in trainings of
    `training_epochs` epochs each: a training that ends sooner costs less, the search does not."""
    training_epochs: Annotated[int, Bounds(ge=1)] = 12
    """Epochs that one training counts as; no more than `train.epochs` do."""
    warm_share: Annotated[float, Bounds(ge=0, lt=1)] = 0.2
    """Share of the search that the common start takes, with the w1 and w2 of the experiment."""


@dataclass(frozen=True)
class AlphaShape:
    """Alpha as a function of activity.

    Raises:
        ConfigError: values that give no alpha between 0 and 1, or a spline that rises.
    """

    kind: Kind
    values: tuple[float, ...]
    """w1 and w2 of the curve; alpha of each group; alpha at each knot of the spline."""
    grid: tuple[float, ...] = ()
    """Upper bounds of all groups but the last, or knots: in multiples of the mean activity."""

    def __post_init__(self) -> None:
        if self.kind == "curve":
            return  # `alpha` checks its parameters
        bounds, values = {
            "groups": ("group_bounds", "group_values"),
            "spline": ("spline_knots", "spline_values"),
        }[self.kind]
        rising = all(low < high for low, high in itertools.pairwise(self.grid))
        if not rising or not all(0 <= bound < math.inf for bound in self.grid):
            raise ConfigError(
                f"{bounds}: expected ascending multiples of the mean activity, 0 or more, got "
                f"{list(self.grid)}"
            )
        if self.kind == "spline" and len(self.grid) < 2:
            raise ConfigError(f"{bounds}: expected two knots or more, got {list(self.grid)}")
        n_values = len(self.grid) + (self.kind == "groups")
        if len(self.values) != n_values or not all(0 <= value <= 1 for value in self.values):
            raise ConfigError(
                f"{values}: expected {n_values} numbers from 0 to 1, as {bounds} has "
                f"{len(self.grid)}, got {list(self.values)}"
            )
        if self.kind == "spline" and any(a < b for a, b in itertools.pairwise(self.values)):
            raise ConfigError(
                f"{values}: expected numbers that never rise, because more clicks need less "
                f"support, got {list(self.values)}"
            )

    def of(self, activity: Float[Tensor, " B"], mean_activity: float) -> Float[Tensor, " B"]:
        """Alpha of each sample, without gradient."""
        if self.kind == "curve":
            return alpha(activity, mean_activity, *self.values)
        values = torch.tensor(self.values, dtype=activity.dtype, device=activity.device)
        return self._with(values, activity, mean_activity)

    def at(
        self, free: Float[Tensor, " P"], activity: Float[Tensor, " B"], mean_activity: float
    ) -> Float[Tensor, " B"]:
        """Alpha of each sample at free parameters, with gradients to them."""
        return self._with(self._values(free), activity, mean_activity).to(activity.dtype)

    def free(self) -> Float[Tensor, " P"]:
        """The free parameters of this shape; `moved` goes back.

        log w1 and log w2; the logit of each group; of the spline, the logit of the first value and
        of the ratio of each further value to the one before, so that none can rise.
        """
        if self.kind == "curve":
            return self.limited(torch.tensor(self.values, dtype=torch.float64).log())
        values = torch.tensor(self.values, dtype=torch.float64)
        if self.kind == "spline":
            before = torch.cat([values.new_ones(1), values[:-1]])
            values = torch.where(before > 0, values / before, 0.5)
        return self.limited(values.logit())

    def limited(self, free: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Free parameters held to the range in which alpha is looked for."""
        if self.kind != "curve":
            return free.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        ranges = torch.tensor([W1_RANGE, W2_RANGE], dtype=free.dtype, device=free.device)
        low, high = ranges.log().T
        return free.clamp(low, high)

    def moved(self, free: Float[Tensor, " P"]) -> "AlphaShape":
        """The shape at other free parameters."""
        return dataclasses.replace(self, values=tuple(self._values(free.detach()).tolist()))

    def options(self) -> dict[str, Any]:
        """The options of the regularizer that give this shape; the grid apart."""
        if self.kind == "curve":
            w1, w2 = self.values
            return {"alpha": "curve", "w1": w1, "w2": w2}
        key = "group_values" if self.kind == "groups" else "spline_values"
        return {"alpha": self.kind, key: list(self.values)}

    def named(self) -> dict[str, float]:
        """The values by name, for a log."""
        names = ("w1", "w2") if self.kind == "curve" else map("alpha_{}".format, itertools.count())
        return dict(zip(names, self.values, strict=False))

    def _values(self, free: Tensor) -> Tensor:
        if self.kind == "curve":
            return free.exp()
        shares = free.sigmoid()
        return shares if self.kind == "groups" else shares.cumprod(0)

    def _with(self, values: Tensor, activity: Tensor, mean_activity: float) -> Tensor:
        if self.kind == "curve":
            return curve_alpha(activity, mean_activity, values[0], values[1])
        if self.kind == "groups":
            return group_alpha(activity, mean_activity, self.grid, values)
        return spline_alpha(activity, mean_activity, self.grid, values)
