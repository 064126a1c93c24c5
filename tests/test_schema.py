import json

from aqcl.schema import Field, Schema

SCHEMA = Schema(
    n_users=5,
    n_items=7,
    n_user_entities=6,
    n_item_entities=9,
    fields=(
        Field("brand", "categorical", "item", size=4),
        Field("age", "numeric", "user", mean=30.5, std=2.0),
        Field("hour", "categorical", "context", size=24),
    ),
)


def test_fields_of_a_side_keep_their_order() -> None:
    assert [field.name for field in SCHEMA.on("item")] == ["brand"]
    assert [field.name for field in SCHEMA.on("user")] == ["age"]


def test_a_schema_survives_json() -> None:
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA


def test_select_keeps_the_named_fields_and_the_sizes() -> None:
    chosen = SCHEMA.select(["hour", "brand"])
    assert [field.name for field in chosen.fields] == ["brand", "hour"]
    assert chosen.n_items == SCHEMA.n_items
    assert SCHEMA.select([]).fields == ()
