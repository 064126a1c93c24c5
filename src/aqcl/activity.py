"""How active a user is: the three groups of the paper's tables, and alpha as a function of it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from aqcl.errors import ConfigError
from aqcl.numbering import number_users
from aqcl.spill import chunks, made

GROUPS: Final = ("non-active", "slightly-active", "highly-active")
"""The groups, least active first: about 60%, 30% and 10% of the users."""


def alpha(
    activity: Float[Tensor, " B"], mean_activity: float, w1: float, w2: float
) -> Float[Tensor, " B"]:
    """Weight of the clusters against the user's own view: exp(-w1 (L_j / L)^w2), no gradient.

    It is 1 for a user without clicks and e^-w1 at the mean. `w2 = 0` is the constant e^-w1,
    for users without clicks too.

    Args:
        activity: L_j, clicks of the user before the sample.
        mean_activity: L, mean number of train clicks of a train user.
        w1: how far alpha falls, 0 or more.
        w2: how sharply it falls around the mean, 0 or more.

    Reference: arXiv 2109.13921, section 4.2.2, equation 6.

    Raises:
        ConfigError: a parameter out of its range.
    """
    if not mean_activity > 0:
        raise ConfigError(f"mean_activity: expected a number above 0, got {mean_activity}")
    for name, value in (("w1", w1), ("w2", w2)):
        if not 0 <= value < float("inf"):
            raise ConfigError(f"{name}: expected a finite number, 0 or more, got {value}")
    with torch.no_grad():
        return curve_alpha(activity, mean_activity, w1, w2)


def check_activity(activity: Tensor, n_samples: int, *, values: bool = True) -> None:
    """Make sure that each sample has a number of clicks.

    Args:
        activity: of a batch.
        n_samples: of the batch.
        values: whether to look at the numbers, for which a device has to be waited for.

    Raises:
        ConfigError: no tensor, another shape, or numbers that count nothing, such as standardised
            ones.
    """
    if not isinstance(activity, Tensor):
        raise ConfigError(f"activity: expected a tensor, got {type(activity).__name__}")
    if activity.shape != (n_samples,):
        raise ConfigError(f"activity: expected shape ({n_samples},), got {tuple(activity.shape)}")
    if values and not bool((activity >= 0).all()):
        raise ConfigError(
            "activity: expected numbers of clicks, 0 or more, got "
            f"{float(activity.min()):.3g}; give them as they are, not scaled"
        )


def curve_alpha(
    activity: Float[Tensor, " B"],
    mean_activity: float,
    w1: float | Float[Tensor, ""],
    w2: float | Float[Tensor, ""],
) -> Float[Tensor, " B"]:
    """The same curve with gradients to `w1` and `w2`; nothing is checked."""
    return torch.exp(-w1 * (activity / mean_activity) ** w2)


def group_alpha(
    activity: Float[Tensor, " B"],
    mean_activity: float,
    bounds: Sequence[float],
    values: Float[Tensor, " G"],
) -> Float[Tensor, " B"]:
    """One alpha for each group of activities, with gradients to `values`.

    Args:
        activity: L_j, clicks of the user before the sample.
        mean_activity: L, mean number of train clicks of a train user.
        bounds: the largest activity of each group but the last, ascending, in multiples of L.
        values: alpha of each group, the least active first.
    """
    # NOTE[DIFF]: the paper has the curve of equation 6 alone and says that the basis function does
    # not matter; steps by group and a monotone spline are there to test that.
    relative = activity[:, None] / mean_activity
    group = (relative > torch.tensor(bounds, dtype=activity.dtype, device=activity.device)).sum(1)
    return values[group]


def spline_alpha(
    activity: Float[Tensor, " B"],
    mean_activity: float,
    knots: Sequence[float],
    values: Float[Tensor, " G"],
) -> Float[Tensor, " B"]:
    """Monotone cubic spline (PCHIP) in log(1 + L_j), with gradients to `values`.

    It passes through all values, falls where they fall, never leaves their range, and is constant
    beyond the last knot.

    Args:
        activity: L_j, clicks of the user before the sample.
        mean_activity: L, mean number of train clicks of a train user.
        knots: activities at the knots, ascending, two or more, in multiples of L.
        values: alpha at the knots.

    Reference: Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5 (1984), with the end slopes of
    SciPy's `PchipInterpolator`.
    """
    at = torch.log1p(mean_activity * torch.tensor(knots, dtype=values.dtype, device=values.device))
    where = torch.log1p(activity.to(values.dtype)).clamp(at[0], at[-1])
    steps = at.diff()
    slopes = _pchip_slopes(steps, values.diff() / steps)
    left = (where[:, None] >= at[1:-1]).sum(1)
    width = steps[left]
    t = (where - at[left]) / width
    rest = 1 - t
    spline = rest**2 * ((1 + 2 * t) * values[left] + t * width * slopes[left]) + t**2 * (
        (3 - 2 * t) * values[left + 1] - rest * width * slopes[left + 1]
    )
    return spline.clamp(0, 1)  # rounding may leave it by an ulp


def _pchip_slopes(steps: Float[Tensor, " I"], secants: Float[Tensor, " I"]) -> Tensor:
    """Slope at each knot: weighted harmonic means of the secants on both sides, 0 at a turn."""
    if len(steps) == 1:
        return secants.expand(2)
    before, after = secants[:-1], secants[1:]
    same = before * after > 0
    one = torch.ones_like(before)  # in place of a zero, whose gradient would be no number
    near, far = 2 * steps[1:] + steps[:-1], steps[1:] + 2 * steps[:-1]
    mean = near / torch.where(same, before, one) + far / torch.where(same, after, one)
    inner = torch.where(same, (near + far) / mean, 0.0)
    first = _end_slope(steps[0], steps[1], secants[0], secants[1])
    last = _end_slope(steps[-1], steps[-2], secants[-1], secants[-2])
    return torch.cat([first[None], inner, last[None]])


def _end_slope(step: Tensor, next_step: Tensor, secant: Tensor, next_secant: Tensor) -> Tensor:
    """Three-point estimate at an end, held back where it would break the monotony."""
    slope = ((2 * step + next_step) * secant - step * next_secant) / (step + next_step)
    steep = (secant * next_secant <= 0) & (slope.abs() > 3 * secant.abs())
    slope = torch.where(steep, 3 * secant, slope)
    return torch.where(slope * secant > 0, slope, 0.0)


def user_groups(
    user: Int[np.ndarray, " N"],
    activity: Int[np.ndarray, " N"],
    thresholds: tuple[int, int],
    timestamp: Int[np.ndarray, " N"] | None = None,
) -> Int8[np.ndarray, " N"]:
    """The group of each row: that of its user at the user's first row.

    Args:
        user: user of each row, rows in any order.
        activity: clicks of the user before each row.
        thresholds: the most clicks of a non-active and of a slightly active user.
        timestamp: decides which row of a user is first; without it, the first in the arrays.

    Returns:
        Indices into `GROUPS`.
    """
    number, n_users = number_users(user)
    order = None if timestamp is None else np.argsort(timestamp, kind="stable")
    first = np.full(n_users, len(user), dtype=np.int64)
    for chunk in chunks(len(user)):
        users = number[chunk] if order is None else number[order[chunk]]
        np.minimum.at(first, users, np.arange(chunk.start, chunk.stop))
    rows = first if order is None else order[first]
    of_user = np.searchsorted(np.asarray(thresholds), activity[rows], side="left").astype(np.int8)
    return made(np.int8, len(user), lambda chunk: of_user[number[chunk]])
