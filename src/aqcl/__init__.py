"""CTR prediction with Auto-Quantized Contrastive Learning.

`attach` puts them on a torch model by the names of its modules; `AQCL` and `ICL`, with their
options, are the losses alone, for a training loop of one's own. The rest of the package is reached
by module. `import aqcl` alone does not import torch.
"""

from typing import TYPE_CHECKING

from aqcl.lazy import on_demand

if TYPE_CHECKING:
    from aqcl.attachment import attach
    from aqcl.regularizers.aqcl import AQCL, AQCLOptions
    from aqcl.regularizers.icl import ICL, ICLOptions

__version__ = "0.1.0"
__all__ = ["AQCL", "ICL", "AQCLOptions", "ICLOptions", "__version__", "attach"]

__getattr__ = on_demand(
    __name__,
    {
        "AQCL": "aqcl.regularizers.aqcl",
        "AQCLOptions": "aqcl.regularizers.aqcl",
        "ICL": "aqcl.regularizers.icl",
        "ICLOptions": "aqcl.regularizers.icl",
        "attach": "aqcl.attachment",
    },
)
