"""The columns of a click log: what each is, and which side of an impression it describes."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["categorical", "categories", "numeric"]
Side = Literal["user", "item", "context"]

PADDING = 0
"""Id of no value at all."""
UNKNOWN = 1
"""Id of a value that the training data do not hold (often enough)."""
FIRST_ID = 2
"""The first id of a real value."""


@dataclass(frozen=True)
class Field:
    """A column beside user, item, timestamp and label."""

    name: str
    kind: Kind
    """`categorical`: one value; `categories`: a list of values, pooled; `numeric`: a float."""
    side: Side
    """`user` and `item` columns belong to the entity; `context` columns to the impression."""
    size: int = 0
    """Vocabulary size with padding and unknown, 0 before `prepare` or for numeric columns."""
    mean: float = 0.0
    """Mean over the training data, numeric columns only."""
    std: float = 1.0
    """Standard deviation over the training data, numeric columns only; 1 if it would be 0."""


@dataclass(frozen=True)
class Schema:
    """All that a model needs to know of a dataset to build its layers.

    Entities (users, items) are numbered so that those known from training come first: an id
    at or beyond `n_users` or `n_items` has a row in the attribute tables but no embedding of
    its own and is looked up as `UNKNOWN`.
    """

    n_users: int
    """Size of the user id vocabulary, padding and unknown included."""
    n_items: int
    """Size of the item id vocabulary, padding and unknown included."""
    n_user_entities: int
    """Rows of the user attribute tables: every user of the log."""
    n_item_entities: int
    """Rows of the item attribute tables: every item of the log."""
    fields: tuple[Field, ...] = ()

    def on(self, side: Side) -> tuple[Field, ...]:
        """The fields of one side, in order."""
        return tuple(field for field in self.fields if field.side == side)

    def select(self, names: Iterable[str]) -> "Schema":
        """The same schema with only the named fields."""
        wanted = set(names)
        return dataclasses.replace(
            self, fields=tuple(field for field in self.fields if field.name in wanted)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Schema":
        """The inverse of `to_json`."""
        return Schema(**{**values, "fields": tuple(Field(**f) for f in values["fields"])})
