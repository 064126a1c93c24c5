"""The regularizers by name. A new one is a file here, its test, and a line in this table."""

from aqcl.contracts import Regularizer
from aqcl.regularizers.aqcl import AQCL
from aqcl.regularizers.icl import ICL

REGULARIZERS: dict[str, type[Regularizer]] = {
    "aqcl": AQCL,
    "icl": ICL,
}
