"""The benchmarks train what they say, report what is missing, and read what the programs print."""

import multiprocessing
import os
import re
import sys
import threading

import numpy as np
import pytest
import training_speed
import whole_run
from helpers import BUNDLED, ROOT, finish, start

BENCHMARKS = ROOT / "benchmarks"

# ---- training_speed.py ---------------------------------------------------------------------------


def answers_of_three_epochs(name):
    """Return what a contender sends after each of three epochs on the bundled digits."""
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=training_speed.work, args=(name, BUNDLED, 128, theirs))
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
def test_the_losses_of_a_contender_are_those_of_pytorch(name, children):
    losses = [loss for _, loss in answers_of_three_epochs(name)]
    # Measured with "PyTorch, eager"; the tolerance is for other random numbers.
    assert losses == pytest.approx([33.42, 27.13, 25.74], rel=0.05)


def test_the_floor_has_no_loss():
    answers = answers_of_three_epochs("floor: five products and Adam")
    assert [loss for _, loss in answers] == [None, None, None]


# The contenders with XLA differ from "Keras fit" in the arguments of `compile` only.
ONE_EPOCH_OF_EACH = """
import sys
import numpy as np
from contenders import CONTENDERS
images = np.random.default_rng(0).integers(0, 256, (256, 784), np.uint8)
for name, contender in CONTENDERS.items():
    if name == "this project" or "XLA" in name:
        continue
    turns = iter([True, False])
    try:
        contender(images, 128, lambda loss: next(turns))
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "jax"):
            raise
    assert "vae_mnist" not in sys.modules, name
"""


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    """Start both child processes of this file, which run beside each other and the other tests."""
    directory = tmp_path_factory.mktemp("original") / "output"
    options = ("--data", BUNDLED, "--epochs", 4, "--output-dir", directory)
    path = f"{BENCHMARKS}{os.pathsep}{ROOT}"
    contenders = start("-c", ONE_EPOCH_OF_EACH, PYTHONPATH=path, KERAS_BACKEND="tensorflow")
    return contenders, start(BENCHMARKS / "original_program.py", *options), directory


def test_no_other_contender_imports_vae_mnist(children):
    status, _, err = finish(children[0])
    assert status == 0, err


def test_a_contender_reports_that_its_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    ours, theirs = multiprocessing.Pipe()
    training_speed.work("PyTorch, eager", BUNDLED, 128, theirs)
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


# ---- original_program.py -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original_run(children):
    """Return the output and the directory of the original program, run for four epochs."""
    _, process, directory = children
    status, out, err = finish(process)
    assert status == 0, err
    return out, directory


def test_the_original_prints_the_cost_of_every_third_epoch(original_run):
    out, _ = original_run
    assert re.findall(r"^Epoch: (\d{4}) cost= \d+\.\d{9}$", out, re.MULTILINE) == ["0001", "0004"]


def test_the_original_sums_the_squared_error_over_all_test_images(original_run):
    out, _ = original_run
    with np.load(BUNDLED) as archive:
        x, x_test = (archive[key].reshape(-1, 784) / 255 for key in ("x_train", "x_test"))
    error_of_mean_image = 0.5 * np.sum(np.square(x_test - x.mean(axis=0)))
    result = float(re.fullmatch(r"Result: (\S+)", out.splitlines()[-1]).group(1))
    # A latent code helps a little after four epochs: 0.95. A mean over 1,000 images gives 0.001.
    assert 0.7 < result / error_of_mean_image < 1.1


def test_the_original_draws_the_figures_of_the_book(original_run):
    _, directory = original_run
    names = ["latent_scatter.png", "manifold.png", "reconstructions.png"]
    assert sorted(path.name for path in directory.iterdir()) == names


# ---- whole_run.py --------------------------------------------------------------------------------


def test_the_test_loss_of_the_original_is_found(original_run):
    out, _ = original_run
    assert whole_run.TEST_LOSS.findall(out) == out.splitlines()[-1:]


def test_the_test_loss_of_a_run_is_found(default_runs):
    out = default_runs[0][1]
    assert whole_run.TEST_LOSS.findall(out) == [
        line for line in out.splitlines() if line.startswith("test loss ")
    ]


def test_a_run_prints_the_lines_that_end_its_parts(default_runs):
    lines = iter(default_runs[0][1].splitlines())
    for beginning in whole_run.ends_of_parts(epochs=3):
        assert any(line.startswith(beginning) for line in lines), beginning  # in this order


# It prints the lines of a run of two epochs and waits in the first and in the last part.
PROGRAM = """
import time
time.sleep(0.4)
for line in ("MNIST", "epoch", "    1  20.0", "    2  19.0", "test loss", "k-NN accuracy", "wrote"):
    print(line)
time.sleep(0.4)
"""


def test_the_time_of_a_part_is_that_between_two_lines(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM, encoding="utf-8")
    first, *others, last = whole_run.times_of_parts(script, "data.npz", 2)
    assert min(first, last) > sum(others)
