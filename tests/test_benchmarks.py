"""The benchmark of the ways to train runs, and names what it cannot measure."""

import re

from conftest import ROOT, finish, start

CONTENDERS = ["TensorFlow 1 graph, feed_dict", "floor: five products and Adam"]


def training_speed(small_file, directory):
    """The table that the benchmark prints, and the bytes of its chart."""
    chart = directory / "chart.png"
    options = ["--epochs", 1, "--chart", chart, "--only", *CONTENDERS]
    status, out, err = finish(start(ROOT / "benchmarks" / "training_speed.py", *options))
    assert status == 0, err
    return out, chart.read_bytes()


def whole_run(small_file, directory):
    options = ["parts", "--runs", 1, "--epochs", 2]
    status, out, err = finish(start(ROOT / "benchmarks" / "whole_run.py", *options))
    assert status == 0, err
    return out


BACKGROUND = {"training speed": training_speed, "whole run": whole_run}


def test_the_benchmark_measures_contenders_in_turns(results):
    table, chart = results["training speed"].result()
    for name, number in (
        ("this project", r"[\d.]+"),
        (CONTENDERS[0], r"[\d.]+"),
        (CONTENDERS[1], "-"),
    ):
        assert re.search(rf"^{name} +[\d.]+ .* {number}$", table, re.MULTILINE)
    assert chart.startswith(b"\x89PNG")


def test_a_missing_peer_is_named_as_not_measured(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import training_speed

    epochs = [(2.0, 30.0), (0.5, 25.0), (0.7, 20.0), (0.6, 22.0)]
    results = {"this project": epochs, "PyTorch, eager": "No module named 'torch'"}
    assert training_speed.print_table(results, 6000) == {"this project": 0.6}
    _, ours, missing = capsys.readouterr().out.splitlines()
    assert ours.split()[2:] == ["0.600", "0.500", "0.700", "1.40", "10,000", "1.00", "22.00"]
    assert missing.split(maxsplit=2)[2] == "not measured: No module named 'torch'"


def test_the_parts_of_a_run_add_up_to_the_whole_process(results):
    text = results["whole run"].result()
    *parts, whole = map(float, re.findall(r"([\d.]+) s$", text, re.MULTILINE))
    assert len(parts) == 6
    assert abs(sum(parts) - whole) < 0.04  # each is rounded
