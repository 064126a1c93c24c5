import io

import pytest
from rich.console import Console

from aqcl import train
from aqcl.progress import training_bar

LATE = train.Progress(
    epoch=11,
    step=1399,
    number=24_500,
    best=0.7312,
    evaluations_since_best=3,
    seconds=193.0,
    steps_per_epoch=2100,
    rows_per_step=1021.2,
)


def last_frame(label: str, *steps: train.Progress, width: int, quiet: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    with training_bar(label, quiet=quiet, console=console) as listen:
        for step in steps:
            listen(step)
    return file.getvalue().split("\x1b[2K")[-1]


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("label", ["DIN", "DIN+AQCL", "DIN with a rather long label, lr=0.001"])
def test_numbers_are_whole(label: str, width: int) -> None:
    frame = last_frame(label, LATE, width=width)
    words = ("epoch 12", "67%", "129,634 rows/s", "best 0.7312, 3 ago")
    assert all(word in frame for word in words), frame
    assert label[:10] in frame
    assert max(len(line) for line in frame.split("\n")) <= width


def test_a_log_loss_is_shown_as_it_is() -> None:
    losing = train.Progress(**{**vars(LATE), "best": -0.4801})
    assert "best 0.4801, 3 ago" in last_frame("DIN", losing, width=80)


def test_before_the_first_evaluation_there_is_no_score() -> None:
    early = train.Progress(step=1, number=1, seconds=0.5, steps_per_epoch=9, rows_per_step=100.0)
    frame = last_frame("DIN", early, width=80)
    assert "200 rows/s" in frame
    assert "best" not in frame


def test_a_label_is_never_read_as_markup() -> None:
    assert "[/]" in last_frame("DIN[/]", LATE, width=80)


def test_quiet_shows_nothing() -> None:
    assert "DIN" not in last_frame("DIN", LATE, width=80, quiet=True)


def test_nothing_is_shown_before_training_starts() -> None:
    assert last_frame("DIN", width=80) == ""
