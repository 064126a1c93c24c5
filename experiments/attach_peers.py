"""Trains models of other libraries with AQCL attached and checks that they stay what they were.

Use it as `python experiments/attach_peers.py deepctr-torch`, or as
`python experiments/attach_peers.py fuxictr --model-zoo CHECKOUT` with a checkout of FuxiCTR, whose
wheel comes without the models. Each needs an environment of its own with that library and aqcl.
`python experiments/attach_peers.py --page` only puts the stored outcome into docs/how-to/attach.md.

The outcome of a library is stored under its name in results/attach.json. Any check that fails ends
the script.
"""

import argparse
import copy
import json
import platform
import re
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peer_models import Subject
    from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "attach.json"
PAGE = ROOT / "docs" / "how-to" / "attach.md"
LIBRARIES = ("deepctr-torch", "fuxictr")
SEED = 7
BATCH, EPOCHS = 256, 10
WARM_UP, SHOWN = 10, 5
MARKED = re.compile(r"(<!-- results:attach -->\n).*?(<!-- /results:attach -->)", re.DOTALL)


def main() -> None:
    """Try the models of a library, or put what is stored into the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("library", nargs="?", choices=LIBRARIES)
    parser.add_argument("--model-zoo", type=Path, help="a checkout of FuxiCTR")
    parser.add_argument("--page", action="store_true", help="only rewrite the page")
    arguments = parser.parse_args()
    if arguments.library:
        try_library(arguments.library, arguments.model_zoo)
    elif not arguments.page:
        parser.error("name a library, or give --page")
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), stored), encoding="utf-8")


def try_library(library: str, model_zoo: Path | None) -> None:
    """Train and check its models; store the outcome under its name."""
    import torch
    from peer_models import ROWS, made_columns, subjects_of

    from aqcl import __version__
    from aqcl.storage import atomic_write

    torch.set_num_threads(1)
    columns = made_columns(SEED)
    models = [tried(subject, columns) for subject in subjects_of(library, model_zoo)]
    command = f"python experiments/attach_peers.py {library}"
    outcome = {
        "command": command + (" --model-zoo CHECKOUT" if library == "fuxictr" else ""),
        "versions": {
            library: version(library),
            "aqcl": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "rows": ROWS,
        "batch_size": BATCH,
        "steps": EPOCHS * ROWS // BATCH,
        "warmup_steps": WARM_UP,
        "models": models,
    }
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    stored = dict(sorted({**stored, library: outcome}.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    atomic_write(RESULTS, json.dumps(stored, indent=1) + "\n")
    sys.stdout.write(table({library: outcome}))


def tried(subject: "Subject", columns: "dict[str, Tensor]") -> dict[str, Any]:
    """Train a model with AQCL attached; the checks and the losses."""
    import torch

    import aqcl

    torch.manual_seed(SEED)
    model = subject.build()
    tables = [
        name
        for name, module in model.named_modules()
        if name.startswith(subject.tables) and isinstance(module, torch.nn.Embedding)
    ]
    attachment = aqcl.attach(
        model,
        latent=subject.latent,
        embeddings=tables,
        history=subject.history,
        mean_activity=float(columns["length"].float().mean()),
        options=aqcl.AQCLOptions(weight=0.1, n_codewords=16, warmup_steps=WARM_UP),
        seed=SEED,
    )
    reached = check_one_pass(subject, model, attachment, columns, tables)
    values = train(subject, model, attachment, columns)[WARM_UP:]
    before, after = (sum(part) / SHOWN for part in (values[:SHOWN], values[-SHOWN:]))
    if not after < before:
        raise SystemExit(f"{subject.name}: the auxiliary loss went from {before} to {after}")
    check_predictions(subject, model, attachment, columns)
    return {
        "model": subject.name,
        "latent": subject.latent,
        "embeddings": tables,
        "history": subject.history,
        "parameters": sum(1 for _ in model.parameters()),
        "parameters_reached": reached,
        "loss_before": round(before, 3),
        "loss_after": round(after, 3),
        "bit_equal": True,
    }


def check_one_pass(
    subject: "Subject",
    model: "nn.Module",
    attachment: Any,
    columns: "dict[str, Tensor]",
    tables: list[str],
) -> int:
    """The first call is the model's own, and the loss alone has gradients for its parameters."""
    import torch

    rows = {name: column[:BATCH] for name, column in columns.items()}
    alone = copy.deepcopy(model)
    torch.manual_seed(SEED)
    plain = subject.probability(alone(subject.inputs(alone, rows)))
    torch.manual_seed(SEED)
    returned, term = attachment(subject.inputs(model, rows), activity=rows["length"])
    require(subject, "output", torch.equal(subject.probability(returned), plain))
    for (name, held), updated in zip(model.named_buffers(), alone.buffers(), strict=True):
        require(subject, f"buffer {name}", torch.equal(held, updated))
    term.value.backward()
    reached = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
    }
    for name in tables:
        require(subject, f"gradient of {name}", f"{name}.weight" in reached)
    for name, parameter in attachment.named_parameters():
        if "projector" in name:
            require(subject, f"gradient of {name}", parameter.grad is not None)
    return len(reached)


def train(
    subject: "Subject", model: "nn.Module", attachment: Any, columns: "dict[str, Tensor]"
) -> list[float]:
    """The auxiliary loss of each step."""
    import torch
    from torch.nn import functional as F

    optimizer = torch.optim.Adam([*model.parameters(), *attachment.parameters()], lr=0.005)
    values = []
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(columns["label"])).split(BATCH):
            rows = {name: column[chosen] for name, column in columns.items()}
            returned, term = attachment(subject.inputs(model, rows), activity=rows["length"])
            predicted = subject.probability(returned)
            logloss = F.binary_cross_entropy(predicted, rows["label"])
            optimizer.zero_grad()
            (logloss + attachment.weight * term.value + term.own).backward()
            optimizer.step()
            values.append(float(term.value.detach()))
    return values


def check_predictions(
    subject: "Subject", model: "nn.Module", attachment: Any, columns: "dict[str, Tensor]"
) -> None:
    """With the attachment, without it, and by a new model of the same weights: the same bits."""
    import torch

    def predictions(of: "nn.Module") -> "Tensor":
        of.eval()
        with torch.no_grad():
            return subject.probability(of(subject.inputs(of, columns)))

    attached = predictions(model)
    attachment.detach()
    require(subject, "predictions when detached", torch.equal(attached, predictions(model)))
    new = subject.build()
    new.load_state_dict(model.state_dict())
    require(subject, "predictions of a new model", torch.equal(attached, predictions(new)))


def require(subject: "Subject", what: str, holds: bool) -> None:
    """End the script if a check fails."""
    if not holds:
        raise SystemExit(f"{subject.name}: {what}: not as it must be")


def table(stored: Mapping[str, Any]) -> str:
    """The outcomes as a table in Markdown."""
    lines = [
        "| library | model | latent | parameters reached | auxiliary loss | equal bits |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for library, outcome in stored.items():
        for model in outcome["models"]:
            cells = [
                f"{library} {outcome['versions'][library]}",
                model["model"],
                f"`{model['latent']}`",
                f"{model['parameters_reached']} of {model['parameters']}",
                f"{model['loss_before']:.3f} to {model['loss_after']:.3f}",
                "yes" if model["bit_equal"] else "no",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def render(page: str, stored: Mapping[str, Any]) -> str:
    """The page with the table of the stored outcomes between its marks."""
    return MARKED.sub(lambda match: match[1] + table(stored) + match[2], page)


if __name__ == "__main__":
    main()
