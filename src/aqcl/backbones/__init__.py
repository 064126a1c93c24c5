"""The backbones by name. A new one is a file here, its test, and a line in this table."""

from aqcl.backbones.autoint import AutoInt
from aqcl.backbones.dcn_v2 import DCNv2
from aqcl.backbones.deepfm import DeepFM
from aqcl.backbones.dien import DIEN
from aqcl.backbones.din import DIN
from aqcl.backbones.dmr import DMR
from aqcl.backbones.fm import FM
from aqcl.backbones.mean_pool import MeanPool
from aqcl.backbones.sasrec import SASRec
from aqcl.backbones.wide_deep import WideDeep
from aqcl.contracts import Backbone

BACKBONES: dict[str, type[Backbone]] = {
    "autoint": AutoInt,
    "dcn-v2": DCNv2,
    "deepfm": DeepFM,
    "dien": DIEN,
    "din": DIN,
    "dmr": DMR,
    "fm": FM,
    "mean-pool": MeanPool,
    "sasrec": SASRec,
    "wide-deep": WideDeep,
}
