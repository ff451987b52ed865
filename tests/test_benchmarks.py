"""The benchmarks measure what they say, and name what they cannot measure."""

import multiprocessing
import sys
import threading

import numpy as np
import pytest
from conftest import BUNDLED, ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import training_speed
import whole_run


def losses_in_turns(name):
    """The losses of three epochs of a contender, as its process answers, and whether it ends."""
    ours, theirs = multiprocessing.Pipe()
    process = threading.Thread(target=training_speed.work, args=(name, BUNDLED, 128, theirs))
    process.start()
    assert ours.recv() is None
    losses = []
    for _ in range(3):
        ours.send(True)
        seconds, loss = ours.recv()
        assert seconds > 0
        losses.append(loss)
    ours.send(False)
    process.join(60)
    assert not process.is_alive()
    return losses


@pytest.mark.parametrize("name", ["this project", "TensorFlow 1 graph, feed_dict"])
def test_a_contender_trains_an_epoch_at_every_turn(name):
    first, second, third = losses_in_turns(name)
    assert first > second > third
    assert 25 < third < 28  # 26.10 by the script; another order and noise, and none left out


def test_the_floor_has_no_loss():
    assert losses_in_turns("floor: five products and Adam") == [None, None, None]


def test_a_contender_whose_framework_is_missing_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    ours, theirs = multiprocessing.Pipe()
    training_speed.work("PyTorch, eager", BUNDLED, 128, theirs)
    assert "torch" in ours.recv()


def test_the_table_and_the_chart_tell_the_medians(capsys, tmp_path):
    epochs = [(2.0, 30.0), (0.5, 25.0), (0.7, 20.0), (0.6, 22.0)]
    results = {"this project": epochs, "PyTorch, eager": "No module named 'torch'"}
    medians = training_speed.print_table(results, 6000)
    assert medians == {"this project": 0.6}
    _, ours, missing = capsys.readouterr().out.splitlines()
    assert ours.split()[2:] == ["0.600", "0.500", "0.700", "1.40", "10,000", "1.00", "22.00"]
    assert missing.split(maxsplit=2)[2] == "not measured: No module named 'torch'"
    training_speed.draw_chart(medians, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


PROGRAM = """
import sys, time
assert sys.argv[1] == "--output-dir"
for line in ("MNIST", "epoch", "    1  20.0", "    2  19.0", "test", "accuracy", "wrote a"):
    print(line)
"""


def test_the_parts_of_a_run_add_up_to_the_whole_process(tmp_path, capsys):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    seconds = whole_run.times_of_parts(script, "data.npz", 2)
    assert len(seconds) == len(whole_run.PARTS)
    assert np.all(seconds >= 0)
    assert 0 < seconds.sum() < 60


def test_the_parts_are_told_by_lines_that_a_run_prints(default_runs):
    lines = default_runs[0][1].splitlines()
    for beginning in whole_run.ends_of_parts(epochs=3):
        assert any(line.startswith(beginning) for line in lines)
