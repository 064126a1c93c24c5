"""The regularizers by name. A new one is a file here, its test, and a line in this table."""

from aqcl.contracts import Regularizer
from aqcl.regularizers.aqcl import AQCL
from aqcl.regularizers.cl4ctr import CL4CTR
from aqcl.regularizers.cl4srec import CL4SRec
from aqcl.regularizers.clcrec import CLCRec
from aqcl.regularizers.combined_pair import CombinedPair
from aqcl.regularizers.deepmcp import DeepMCP
from aqcl.regularizers.dien import DIEN
from aqcl.regularizers.dmr import DMR
from aqcl.regularizers.dropoutnet import DropoutNet
from aqcl.regularizers.icl import ICL
from aqcl.regularizers.pcl import PCL
from aqcl.regularizers.s3rec import S3Rec
from aqcl.regularizers.ssl4rec import SSL4Rec
from aqcl.regularizers.supcon import SupCon
from aqcl.regularizers.swav import SwAV

REGULARIZERS: dict[str, type[Regularizer]] = {
    "aqcl": AQCL,
    "cl4ctr": CL4CTR,
    "cl4srec": CL4SRec,
    "clcrec": CLCRec,
    "combined-pair": CombinedPair,
    "deepmcp": DeepMCP,
    "dien": DIEN,
    "dmr": DMR,
    "dropoutnet": DropoutNet,
    "icl": ICL,
    "pcl": PCL,
    "s3rec": S3Rec,
    "ssl4rec": SSL4Rec,
    "supcon": SupCon,
    "swav": SwAV,
}
