"""The contenders train the same model; what is missing is reported; the table and the chart."""

import inspect
import multiprocessing
import sys
import threading

import contenders
import pytest
import training_speed


def answers_of_three_epochs(name, path):
    """Return what a contender sends after each of three epochs."""
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=training_speed.work, args=(name, path, 128, theirs))
    thread.start()
    assert ours.recv() is None
    answers = []
    for _ in range(3):
        ours.send(True)
        answers.append(ours.recv())
    ours.send(False)
    thread.join(60)
    assert not thread.is_alive()
    return answers


@pytest.mark.parametrize("name", ["this project", "TensorFlow 1 graph, feed_dict", "Keras fit"])
def test_the_losses_of_a_contender_are_those_of_pytorch(name, benchmark_file):
    losses = [loss for _, loss in answers_of_three_epochs(name, benchmark_file)]
    # Measured with "PyTorch, eager"; the tolerance is for other random numbers.
    assert losses == pytest.approx([37.54, 28.31, 26.92], rel=0.03)


def test_the_floor_has_no_loss(benchmark_file):
    answers = answers_of_three_epochs("floor: five products and Adam", benchmark_file)
    assert [loss for _, loss in answers] == [None, None, None]


def test_only_this_project_imports_vae_mnist():
    """Which sets environment variables of TensorFlow."""
    source = inspect.getsource(contenders)
    of_this_project = inspect.getsource(contenders.this_project)
    assert "import vae_mnist" in of_this_project
    assert "import vae_mnist" not in source.replace(of_this_project, "")


def test_a_contender_reports_that_its_library_is_missing(monkeypatch, benchmark_file):
    monkeypatch.setitem(sys.modules, "torch", None)
    ours, theirs = multiprocessing.Pipe()
    training_speed.work("PyTorch, eager", benchmark_file, 128, theirs)
    assert "torch" in ours.recv()


# The first epoch, which includes the compilation, is not counted.
RESULTS = {
    "this project": [(2.0, 30.0), (0.5, 25.0), (0.7, 20.0), (0.6, 22.0)],
    "PyTorch, eager": "No module named 'torch'",
}


def test_the_table_shows_the_counted_epochs(capsys):
    training_speed.print_table(RESULTS, 6000)
    _, row, _ = capsys.readouterr().out.splitlines()
    assert row.split()[2:] == ["0.600", "0.500", "0.700", "1.40", "10,000", "1.00", "22.00"]


def test_the_table_shows_why_a_contender_is_not_measured(capsys):
    training_speed.print_table(RESULTS, 6000)
    _, _, row = capsys.readouterr().out.splitlines()
    assert row.split(maxsplit=2)[2] == "not measured: No module named 'torch'"


def test_the_chart_is_a_png_file(tmp_path):
    training_speed.draw_chart({"this project": 0.6, "PyTorch, eager": 1.2}, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
