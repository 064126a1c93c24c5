"""A click log becomes a dataset directory.

`prepare` in `pipeline` takes a log through it: a `census` of its values, `partitions` by users and
the `sorted_log`, then `samples` with their columns. `prepare_source` in `source` starts earlier.
"""

from typing import TYPE_CHECKING

from aqcl.lazy import on_demand

if TYPE_CHECKING:
    from aqcl.prepare.pipeline import Origin, PrepareSettings, merge_protocol, prepare
    from aqcl.prepare.source import prepare_source

__all__ = ["Origin", "PrepareSettings", "merge_protocol", "prepare", "prepare_source"]
__getattr__ = on_demand(
    __name__,
    dict.fromkeys(__all__, "aqcl.prepare.pipeline") | {"prepare_source": "aqcl.prepare.source"},
)
