"""A run as a user without a network makes it leaves what the README promises."""

import csv
import json
import re

import matplotlib.image
import numpy as np
import pytest
from conftest import OUTPUT_FILES, contents, finish, start_script

EPOCHS = 3
SIZES = {  # width and height in pixels
    "reconstructions.png": (1660, 340),
    "latent_scatter.png": (1320, 1160),
    "manifold.png": (1320, 1320),
    "training_curves.png": (1800, 580),
}


def start_offline_run(directory, *arguments):
    """Starts the script where no network can be reached and no MNIST is cached."""
    return start_script(
        *("--epochs", EPOCHS, "--output-dir", directory / "output", *arguments),
        KERAS_HOME=str(directory),
        https_proxy="http://127.0.0.1:9",  # nothing listens at the discard port
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two equal runs, side by side: for each, its status, output, errors and directory."""
    directories = [tmp_path_factory.mktemp("run") for _ in range(2)]
    processes = [start_offline_run(directory) for directory in directories]
    return [
        (*finish(process), directory / "output")
        for process, directory in zip(processes, directories, strict=True)
    ]


@pytest.fixture
def run(runs):
    return runs[0]


def test_the_run_succeeds(run):
    status, *_ = run
    assert status == 0


def test_the_only_note_tells_of_the_bundled_digits(run):
    _, _, err, _ = run
    assert err.startswith("note: MNIST could not be downloaded (")
    assert "using the 5,000 bundled digits. For the full set, give " in err
    assert err.count("\n") == 1


def test_the_output_is_plain_lines(run):
    _, out, _, _ = run
    assert "\x1b" not in out
    assert "\r" not in out
    assert out.splitlines()[0] == (
        "MNIST, 5,000 bundled digits: 3,667 training, 333 validation and 1,000 test images; "
        "losses in nats per image"
    )


def test_the_files_written_are_listed(run):
    _, out, _, output = run
    listed = re.findall(r"^wrote (.*)$", out, flags=re.MULTILINE)
    assert sorted(listed) == [str(output / name) for name in OUTPUT_FILES]
    assert sorted(contents(output)) == list(OUTPUT_FILES)


@pytest.mark.parametrize("name", SIZES)
def test_a_picture_has_its_size_and_is_not_blank(run, name):
    *_, output = run
    pixels = matplotlib.image.imread(output / name)[..., :3]
    assert pixels.shape[1::-1] == SIZES[name]
    assert pixels.min() < 0.1
    assert pixels.max() > 0.9
    assert pixels.std() > 0.1


@pytest.mark.parametrize("name", SIZES)
def test_a_picture_has_no_empty_margins(run, name):
    *_, output = run
    inked = (matplotlib.image.imread(output / name)[..., :3] < 1).any(axis=-1)
    for axis in (0, 1):
        lines = np.flatnonzero(inked.any(axis=axis))
        assert 1 <= lines[0] <= 40
        assert 1 <= inked.shape[1 - axis] - 1 - lines[-1] <= 40


def read_history(output):
    with open(output / "history.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_the_history_has_a_row_an_epoch_and_the_losses_fall(run):
    *_, output = run
    history = read_history(output)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    for name in ("loss", "reconstruction", "validation_loss", "validation_reconstruction"):
        assert history[0][name] > history[1][name] > history[2][name]


def test_the_loss_in_the_history_is_the_sum_of_its_parts(run):
    *_, output = run
    for row in read_history(output):
        for split in ("", "validation_"):
            parts = row[f"{split}reconstruction"] + row[f"{split}kl"]
            assert row[f"{split}loss"] == pytest.approx(parts, rel=1e-5)


def test_the_history_agrees_with_the_printed_rows(run):
    _, out, _, output = run
    printed = re.findall(r"^ +(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", out, re.MULTILINE)
    columns = ("epoch", "loss", "reconstruction", "kl", "validation_loss")
    rows = [[row[column] for column in columns] for row in read_history(output)]
    np.testing.assert_allclose(np.array(printed, float), rows, rtol=0, atol=0.00501)


def test_the_metrics_agree_with_the_printed_test_loss(run):
    _, out, _, output = run
    metrics = json.loads((output / "metrics.json").read_text())
    test = metrics.pop("test")
    accuracy = metrics.pop("neighbour_accuracy")
    assert metrics == {
        "data": "MNIST, 5,000 bundled digits",
        "train_images": 3667,
        "test_images": 1000,
        "epochs": EPOCHS,
        "batch_size": 128,
        "learning_rate": 0.001,
        "reconstruction_loss": "squared-error",
        "kl_weight": 1.0,
        "seed": 0,
    }
    assert (
        f"test loss {test['loss']:.4f} = {test['reconstruction']:.4f} reconstruction "
        f"+ 1 x {test['kl']:.4f} KL\n"
        f"accuracy {accuracy:.4f} of the vote of the 25 nearest training codes\n"
    ) in out
    assert 0.2 < accuracy < 1


def test_a_second_process_writes_the_same_bytes(runs):
    assert contents(runs[0][-1]) == contents(runs[1][-1])
