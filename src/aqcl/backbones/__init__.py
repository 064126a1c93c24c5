"""The backbones by name. A new one is a file here, its test, and a line in this table."""

from aqcl.backbones.din import DIN
from aqcl.contracts import Backbone

BACKBONES: dict[str, type[Backbone]] = {
    "din": DIN,
}
