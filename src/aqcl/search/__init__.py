"""Settings searched on the validation rows: by whole trainings, or alpha alone for about one.

`run_search` in `work` is the way in. A `space` says what may vary, a `plan` which methods are
searched; a `study` keeps the trials, `standing` knows which is best, `summary` writes it down.
"""

from typing import TYPE_CHECKING

from aqcl.lazy import on_demand

if TYPE_CHECKING:
    from aqcl.search.work import read_study, run_search

__all__ = ["read_study", "run_search"]
__getattr__ = on_demand(__name__, dict.fromkeys(__all__, "aqcl.search.work"))
