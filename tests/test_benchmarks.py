"""The benchmark of the ways to train runs, and names what it cannot measure."""

import re
import subprocess
import sys

from conftest import ROOT


def test_the_benchmark_measures_contenders_in_turns(tmp_path):
    contenders = ["TensorFlow 1 graph, feed_dict", "floor: five products and Adam"]
    command = [sys.executable, ROOT / "benchmarks" / "training_speed.py"]
    arguments = ["--epochs", "1", "--chart", tmp_path / "chart.png", "--only", *contenders]
    run = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    for name, number in (
        ("this project", r"[\d.]+"),
        (contenders[0], r"[\d.]+"),
        (contenders[1], "-"),
    ):
        assert re.search(rf"^{name} +[\d.]+ .* {number}$", run.stdout, re.MULTILINE)
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_peer_is_named_as_not_measured(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import training_speed

    epochs = [(2.0, 30.0), (0.5, 25.0), (0.7, 20.0), (0.6, 22.0)]
    results = {"this project": epochs, "PyTorch, eager": "No module named 'torch'"}
    assert training_speed.print_table(results, 6000) == {"this project": 0.6}
    _, ours, missing = capsys.readouterr().out.splitlines()
    assert ours.split()[2:] == ["0.600", "0.500", "0.700", "1.40", "10,000", "1.00", "22.00"]
    assert missing.split(maxsplit=2)[2] == "not measured: No module named 'torch'"


def test_the_parts_of_a_run_add_up_to_the_whole_process():
    command = [sys.executable, ROOT / "benchmarks" / "whole_run.py", "parts"]
    arguments = ["--runs", "1", "--epochs", "2"]
    run = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    *parts, whole = map(float, re.findall(r"([\d.]+) s$", run.stdout, re.MULTILINE))
    assert len(parts) == 6
    assert abs(sum(parts) - whole) < 0.04  # each is rounded
