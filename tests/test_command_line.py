"""The command line: options and their faults, what ends a run, what is set for the process."""

import io
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from helpers import contents, exit_status

import vae_mnist

# ---- Options -------------------------------------------------------------------------------------


BAD_OPTIONS = {
    "epochs 0": (["--epochs", "0"], "--epochs must be at least 1"),
    "epochs not whole": (["--epochs", "1.5"], "argument --epochs: invalid int value: '1.5'"),
    "batch size 0": (["--batch-size=0"], "--batch-size must be at least 1"),
    "learning rate 0": (["--learning-rate", "0"], "--learning-rate must be a number above 0"),
    "learning rate infinite": (["--learning-rate", "inf"], "--learning-rate must be a number"),
    "negative KL weight": (["--kl-weight=-1e-9"], "--kl-weight must be a number of at least 0"),
    "KL weight infinite": (["--kl-weight", "inf"], "--kl-weight must be a number of at least 0"),
    "seed below 0": (["--seed=-1"], "--seed must be from 0 to 2**32 - 1"),
    "seed too large": (["--seed", "4294967296"], "--seed must be from 0 to 2**32 - 1"),
    "unknown loss": (["--reconstruction-loss", "hinge"], "hinge"),
    "a batch larger than the data": (["--batch-size", "221"], "a batch of 221 from 220 training"),
    "a path through a file": (["--output-dir", f"{vae_mnist.__file__}/x"], "Not a directory"),
}


@pytest.mark.parametrize(("arguments", "culprit"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_a_bad_option_is_rejected_in_one_line(arguments, culprit, small_file, rejected):
    assert culprit in rejected("--data", small_file, *arguments)


def test_a_home_directory_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert vae_mnist.parse_arguments(["--output-dir=~/runs/"]).output_dir == tmp_path / "runs"


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--epochs=1", "epochs", 1),
        ("--batch-size=1", "batch_size", 1),
        ("--kl-weight=0", "kl_weight", 0.0),
        ("--seed=0", "seed", 0),
        ("--seed=4294967295", "seed", 2**32 - 1),
    ],
)
def test_a_value_at_its_limit_is_accepted(argument, name, value):
    assert getattr(vae_mnist.parse_arguments([argument]), name) == value


def test_help_shows_every_option_with_its_default(capsys):
    assert exit_status("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for option, default in {
        "--data PATH": str(vae_mnist.MNIST),
        "--epochs EPOCHS": "50",
        "--batch-size BATCH_SIZE": "128",
        "--learning-rate LEARNING_RATE": "0.001",
        "--reconstruction-loss {squared-error,cross-entropy}": "squared-error",
        "--kl-weight KL_WEIGHT": "1.0",
        "--seed SEED": "0",
        "--output-dir OUTPUT_DIR": "outputs",
    }.items():
        assert option in text
        description = text[text.rindex(option) :]
        assert description.index(f"(default: {default})") < 160


def test_the_options_of_the_command_line_are_read_where_none_are_given(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vae_mnist.py", "--epochs", "none"])
    with pytest.raises(SystemExit) as stop:
        vae_mnist.main()
    assert stop.value.code == 2
    assert "--epochs" in capsys.readouterr().err


# ---- What ends a run -----------------------------------------------------------------------------


@pytest.mark.parametrize("bug", [ZeroDivisionError(), FileNotFoundError(2, "No such file", "x")])
def test_a_bug_keeps_its_traceback(bug, monkeypatch, small_file, tmp_path):
    def fail(*args, **kwargs):
        raise bug

    monkeypatch.setattr(vae_mnist.VAE, "fit", fail)
    with pytest.raises(type(bug)):
        vae_mnist.main(["--data", str(small_file), "--output-dir", str(tmp_path / "new")])


def test_a_loss_that_is_not_finite_stops_the_run(eagerly, small_file, output, capsys):
    before = contents(output)
    arguments = ["--data", str(small_file), "--output-dir", str(output), "--learning-rate", "1e9"]
    assert vae_mnist.main(arguments) == 2
    err = capsys.readouterr().err
    assert err == (
        "vae_mnist.py: error: the loss is not finite; try a smaller --learning-rate or "
        "--kl-weight\n"
    )
    assert contents(output) == before


def test_an_interrupt_ends_the_run_in_one_line_and_leaves_the_old_files(
    eagerly, small_file, output, monkeypatch, capsys
):
    before = contents(output)

    def press_ctrl_c(table, epoch, logs):
        raise KeyboardInterrupt

    monkeypatch.setattr(vae_mnist.EpochTable, "on_epoch_end", press_ctrl_c)
    assert exit_status("--data", small_file, "--epochs", 2, "--output-dir", output) == 130
    assert capsys.readouterr().err == "vae_mnist.py: interrupted\n"
    assert contents(output) == before


# ---- What is printed -----------------------------------------------------------------------------


def test_a_path_that_the_console_cannot_encode_is_escaped(
    eagerly, small_file, tmp_path, monkeypatch
):
    """As on a Western Windows, with Chinese letters."""
    path = tmp_path / "数字.npz"
    path.write_bytes(small_file.read_bytes())
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(vae_mnist, "output_files", lambda *args: [("explorer.html", Path.touch)])
    assert exit_status("--data", path, "--epochs", 1, "--output-dir", tmp_path / "数字") == 0
    lines = console.buffer.getvalue().decode("cp1252").splitlines()
    assert lines[0].startswith("\\u6570\\u5b57.npz: 220 training")
    assert lines[-1].endswith("\\u6570\\u5b57/explorer.html")


@pytest.mark.parametrize("stream", [None, BrokenPipeError, ValueError])
def test_a_line_without_a_reader_ends_nothing(stream, monkeypatch):
    class Stream:
        encoding = "ascii"

        def write(self, text):
            raise stream

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", None if stream is None else Stream())
    vae_mnist.say("größe")


# ---- What is set for the process -----------------------------------------------------------------


def test_neither_the_import_nor_a_run_sets_anything_for_the_process(
    finished_run, settings_unchanged
):
    tf.random.normal([3])  # raises where operations were made deterministic
