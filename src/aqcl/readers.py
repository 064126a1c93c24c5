"""The model that is served: a backbone, with those regularizers that its prediction reads."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from aqcl.batch import Batch, Embedded
from aqcl.contracts import Predictor, Reader, Regularizer


def is_read(regularizer: nn.Module) -> bool:
    """Whether the prediction uses a regularizer; one of weight 0 is never trained nor read."""
    if not isinstance(regularizer, Reader) or not regularizer.reads():
        return False
    assert isinstance(regularizer, Regularizer)
    return regularizer.weight > 0


def with_readers(backbone: nn.Module, regularizers: Iterable[nn.Module]) -> nn.Module:
    """The model that scores: the backbone itself where nothing is read. Shares all weights."""
    readers = [module for module in regularizers if is_read(module)]
    return Reading(backbone, readers) if readers else backbone


class Reading(nn.Module):
    """A backbone whose `predict` sees its latent plus what each reader adds; a `Predictor`."""

    def __init__(self, backbone: nn.Module, readers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.readers = nn.ModuleList(readers)
        self.train(backbone.training)

    def embed(self, batch: Batch) -> Embedded:
        return self._backbone.embed(batch)

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        return self._backbone.encode(embedded)

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        seen = latent
        for reader in self.readers:
            assert isinstance(reader, Reader)
            seen = seen + reader.read(latent, embedded)
        return self._backbone.predict(seen, embedded)

    @property
    def _backbone(self) -> Predictor:
        assert isinstance(self.backbone, Predictor)
        return self.backbone
