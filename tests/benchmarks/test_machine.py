"""What is said of a machine, and when two are the same."""

import json
import platform
import socket

import pytest
from benchmarks import machine
from benchmarks.part import available, figures, load


def test_the_description_is_complete_and_names_no_host() -> None:
    described = machine.describe()
    assert described["cores"] >= 1
    assert described["memory_gib"] >= 1
    assert described["processor"]
    text = json.dumps(described)
    for name in {socket.gethostname(), platform.node()} - {"", "localhost"}:
        assert name not in text


def test_the_fingerprint_is_that_of_the_hardware_and_the_system() -> None:
    described = machine.describe()
    assert described["fingerprint"] == machine.fingerprint(described)
    assert machine.describe() == described
    for key, value in described.items():
        if key != "fingerprint":
            assert machine.fingerprint({**described, key: f"{value}x"}) != described["fingerprint"]


CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 23
model\t\t: 1
model name\t: AMD EPYC
stepping\t: 2
bogomips\t: 3992.50

processor\t: 1
model\t\t: 17
"""


def test_processors_of_one_name_are_told_apart_by_their_numbers() -> None:
    found = machine.processor_of(CPUINFO)
    assert found == "AMD EPYC (cpu family 23, model 1, stepping 2)"
    newer = CPUINFO.replace("model\t\t: 1\n", "model\t\t: 49\n")
    assert machine.processor_of(newer) != found
    assert machine.processor_of("") == ""


def test_versions_are_those_installed() -> None:
    found = machine.versions()
    assert found["python"] == platform.python_version()
    assert {"torch", "numpy", "polars"} <= set(found)


def test_figures_follow_dotted_paths_and_stars() -> None:
    outcome = {"a": {"x, y": {"ratio": 2, "name": "z"}, "w": {"ratio": 3.5, "flag": True}}, "b": 1}
    assert figures(outcome, "a.*.ratio") == [("a.x, y.ratio", 2.0), ("a.w.ratio", 3.5)]
    assert figures(outcome, "b") == [("b", 1.0)]
    assert figures(outcome, "a.*.name") == []
    assert figures(outcome, "a.*.flag") == []
    assert figures(outcome, "b.c") == []


@pytest.mark.parametrize("name", available())
def test_every_part_measures_and_declares_its_ratios(name: str) -> None:
    part = load(name)
    assert callable(part.measure)
    assert set(part.RATIOS.values()) <= {"higher", "lower"}
