"""A small CTR model of plain torch that knows nothing of aqcl, with aqcl attached."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import aqcl
from aqcl.attachment import Attachment
from aqcl.batch import LossTerm
from aqcl.regularizers.aqcl import AQCLOptions

ITEMS, USERS, ROWS, STEPS, WIDTH = 30, 20, 32, 5, 4
OPTIONS = AQCLOptions(n_codewords=4, top_k=2, dim=8, hidden_dim=8, warmup_steps=2)


class Net(nn.Module):
    """Mean pooling, one table for candidate and history, batch normalisation, dropout, a dict."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.item = nn.Embedding(ITEMS, WIDTH, padding_idx=0)
        self.tables = nn.ModuleDict({"item": self.item, "user": nn.Embedding(USERS, WIDTH)})
        self.wide = nn.Embedding(USERS, 1)
        self.unused = nn.Linear(3, 3)
        self.dnn = nn.Sequential(
            nn.Linear(3 * WIDTH, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(16, 6),
            nn.ReLU(),
        )
        self.head = nn.Linear(6, 1)

    def forward(self, x: dict[str, Tensor], scale: float = 1.0) -> dict[str, Tensor]:
        candidate = self.tables["item"](x["item"])
        clicks = self.tables["item"](x["history"])
        inputs = torch.cat([candidate, clicks.mean(1), self.tables["user"](x["user"])], 1)
        logit = self.head(self.dnn(inputs)) + self.wide(x["user"])
        return {"logit": scale * logit.squeeze(1)}


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    history = draw(1, ITEMS, ROWS, STEPS)
    history[:, 2:] *= draw(0, 2, ROWS, STEPS - 2)
    return {"item": draw(1, ITEMS, ROWS), "history": history, "user": draw(0, USERS, ROWS)}


def activity() -> Tensor:
    return torch.arange(ROWS) % 7


def make(dropout: float = 0.2, **changed: Any) -> tuple[Net, Attachment]:
    torch.manual_seed(0)
    model = Net(dropout)
    settings: dict[str, Any] = {
        "latent": "input:head",
        "embeddings": ["tables.item", "tables.user"],
        "history": ["tables.item"],
        "mean_activity": 3.0,
        "options": OPTIONS,
    }
    return model, aqcl.attach(model, **(settings | changed))


def step(attachment: Attachment) -> tuple[dict[str, Tensor], LossTerm]:
    output, term = attachment(batch(), activity=activity())
    return output, term


def outputs_of(
    attachment: Attachment, module: nn.Module, call: Callable[[], object] | None = None
) -> list[Tensor]:
    """What the rest of the model sees of a module, over both passes."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    (call or (lambda: step(attachment)))()
    handle.remove()
    return seen
