"""The command line: options, their faults, what is printed, what a fault of the user ends in."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    OUTPUT_FILES,
    SCRIPT,
    contents,
    exit_status,
    finish,
    old_results,
    posix,
    run_python,
    start_script,
    without_notices,
)

import vae_mnist

# ---- Options -------------------------------------------------------------------------------------


BAD_OPTIONS = {
    "epochs 0": (["--epochs", "0"], "--epochs: must be a whole number of at least 1, not '0'"),
    "epochs not whole": (["--epochs", "1.5"], "--epochs: must be a whole number of at least 1"),
    "batch size 0": (["--batch-size=0"], "--batch-size: must be a whole number of at least 1"),
    "learning rate 0": (["--learning-rate", "0"], "--learning-rate: must be a number above 0"),
    "learning rate infinite": (["--learning-rate", "inf"], "--learning-rate: must be a number"),
    "negative KL weight": (["--kl-weight=-1e-9"], "--kl-weight: must be a number of at least 0"),
    "KL weight no number": (["--kl-weight", "nan"], "--kl-weight: must be a number of at least 0"),
    "KL weight infinite": (["--kl-weight", "inf"], "--kl-weight: must be a number of at least 0"),
    "seed below 0": (["--seed=-1"], "--seed: must be a whole number from 0 to 2**32 - 1"),
    "seed too large": (["--seed", "4294967296"], "--seed: must be a whole number from 0 to 2**32"),
    "unknown loss": (["--reconstruction-loss", "hinge"], "hinge"),
    "unknown option": (["--epoch", "3"], "--epoch"),
    "value missing": (["--data"], "--data"),
    "several": (["--seed", "x", "--epochs", "0", "--kl-weight", "y"], "--seed: must be a whole"),
    "a file for a directory": (["--output-dir", vae_mnist.__file__], "vae_mnist.py: cannot be"),
    "a path through a file": (["--output-dir", f"{vae_mnist.__file__}/x"], "Not a directory"),
    "a directory that can't be created": (["--output-dir", "/proc/möglich"], "/proc/möglich"),
}


@pytest.mark.parametrize(("arguments", "culprit"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_a_bad_option_is_refused_in_one_line(arguments, culprit, small_file, refused):
    assert culprit in refused("--data", small_file, *arguments)


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--epochs=1", "epochs", 1),
        ("--batch-size=1", "batch_size", 1),
        ("--learning-rate=1e-300", "learning_rate", 1e-300),
        ("--kl-weight=0", "kl_weight", 0.0),
        ("--seed=0", "seed", 0),
        ("--seed=4294967295", "seed", 2**32 - 1),
    ],
)
def test_a_value_at_its_limit_is_taken(argument, name, value):
    assert getattr(vae_mnist.parse_arguments([argument]), name) == value


def test_help_shows_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        vae_mnist.main(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option, default in {
        "--data PATH": "MNIST from Keras' cache, downloaded once; the bundled digits where that "
        "fails",
        "--epochs N": "50",
        "--batch-size N": "128",
        "--learning-rate X": "0.001",
        "--reconstruction-loss {squared-error,cross-entropy}": "squared-error",
        "--kl-weight X": "1.0",
        "--seed N": "0",
        "--output-dir DIRECTORY": "outputs",
    }.items():
        assert option in text
        description = text[text.rindex(option) :]
        assert description.index(f"(default: {default})") < 160


def test_the_options_of_the_command_line_are_read_where_none_are_given(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vae_mnist.py", "--epochs", "none"])
    assert exit_status_of_main() == 2
    assert "--epochs" in capsys.readouterr().err


def exit_status_of_main():
    try:
        return vae_mnist.main()
    except SystemExit as stop:
        return stop.code


# ---- Faults of the user, and bugs ----------------------------------------------------------------


@pytest.mark.parametrize("bug", [ZeroDivisionError(), FileNotFoundError(2, "No such file", "x")])
def test_a_bug_keeps_its_traceback(bug, monkeypatch, small_file, tmp_path):
    def fail(*args, **kwargs):
        raise bug

    monkeypatch.setattr(vae_mnist, "train", fail)
    with pytest.raises(type(bug)):
        vae_mnist.main(["--data", str(small_file), "--output-dir", str(tmp_path / "new")])


def test_a_loss_that_is_not_finite_stops_the_run(small_file, output, capsys):
    before = contents(output)
    arguments = ["--data", str(small_file), "--output-dir", str(output), "--learning-rate", "1e9"]
    assert vae_mnist.main(arguments) == 2
    err = capsys.readouterr().err
    assert "no longer finite in epoch 1; try a learning rate below 1e+09" in err
    assert err.count("\n") == 1
    assert contents(output) == before


@pytest.mark.parametrize(("kl", "collapsed"), [(0.0499, True), (0.05, False)])
def test_a_collapsed_code_is_reported_in_one_line(kl, collapsed, model, data, monkeypatch, capsys):
    losses = vae_mnist.Losses(20.0, 20.0, kl)
    monkeypatch.setattr(vae_mnist, "evaluate", lambda *args: losses)
    few = data._replace(x_test=data.x_test[:30], y_test=data.y_test[:30])
    vae_mnist.assess_model(model, few, np.random.default_rng(0))
    err = capsys.readouterr().err
    assert err == collapsed * (
        "note: the code has collapsed (KL below 0.05 nats): every image has the same "
        "reconstruction; try another --seed or a smaller --kl-weight.\n"
    )


def test_a_run_that_collapses_says_so(small_file, tmp_path, without_figures, capsys):
    arguments = ["--data", small_file, "--output-dir", tmp_path / "new"]
    assert exit_status(*arguments, "--epochs", 40, "--kl-weight", 1000) == 0
    assert capsys.readouterr().err.startswith("note: the code has collapsed")


def test_an_interpreter_that_drops_docstrings_shows_the_help(monkeypatch, capsys):
    monkeypatch.setattr(vae_mnist, "__doc__", None)  # as python -OO does
    assert exit_status("--help") == 0
    assert "learns MNIST digits" in capsys.readouterr().out


# ---- What is printed -----------------------------------------------------------------------------


ROW = {"loss": 155.123, "reconstruction": 150.0, "kl": 5.123, "validation_loss": 156.0}


def printed_rows(columns, monkeypatch, capsys):
    """The lines of the first and the last of two epochs in a terminal, 123 s after the start."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(vae_mnist.time, "monotonic", lambda: 1123.0)
    vae_mnist.print_row({"epoch": 1} | ROW, epochs=2, start=1000.0)
    vae_mnist.print_row({"epoch": 2} | ROW, epochs=2, start=1000.0)
    return capsys.readouterr().out.splitlines()


def test_in_a_terminal_the_row_is_redrawn_with_a_bar(monkeypatch, capsys):
    heading, first, second = printed_rows(80, monkeypatch, capsys)
    assert heading == "epoch    loss  reconstruction      KL  validation loss"
    assert (
        first == "    1  155.12          150.00    5.12           156.00  [#####.....] 123 s left"
    )
    assert second == f"\x1b[A\x1b[K    2{first[5:-23]}[##########] 0 s left"


@pytest.mark.parametrize("columns", [20, 40])
def test_in_a_narrow_terminal_no_line_wraps(columns, monkeypatch, capsys):
    heading, first, second = printed_rows(columns, monkeypatch, capsys)
    assert len(heading) == len(first) == columns - 1
    assert len(second) == len("\x1b[A\x1b[K") + columns - 1


def test_a_path_that_the_terminal_cannot_show_does_not_end_the_run(default_runs):
    status, out, err, _ = default_runs[1]
    assert status == 0
    assert r"gr\xf6\xdfe" in out
    assert "Traceback" not in err


def left_reader(small_file, directory):
    """A run whose reader leaves after three lines."""
    output = old_results(directory)
    process = start_script("--data", small_file, "--epochs", 1000, "--output-dir", output)
    for _ in range(3):
        process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    status, _, err = finish(process)
    return status, err, contents(output)


@posix
def test_a_reader_that_leaves_early_ends_the_run_quietly(results):
    status, err, files = results["left reader"].result()
    assert (status, err) == (1, "")
    assert files == {name: f"old {name}".encode() for name in OUTPUT_FILES}


def full_output(small_file, directory):
    """A run whose output goes to a disk that is full."""
    output = old_results(directory)
    with open("/dev/full", "w") as full:
        command = [sys.executable, SCRIPT, "--data", small_file, "--output-dir", output]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, encoding="utf-8")
    return run.returncode, without_notices(run.stderr), contents(output)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_an_output_that_cannot_be_written_ends_the_run_in_one_line(results):
    status, err, files = results["full output"].result()
    assert (status, err) == (
        1,
        "vae_mnist.py: error: standard output cannot be written (No space left on device)\n",
    )
    assert files == {name: f"old {name}".encode() for name in OUTPUT_FILES}


def closed_output(small_file, directory):
    """A run that was given no standard output at all."""
    command = [sys.executable, SCRIPT, "--data", small_file, "--epochs", 1, "--output-dir"]
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *map(str, command), directory]
    run = subprocess.run(shell, stderr=subprocess.PIPE, encoding="utf-8")
    return run.returncode, without_notices(run.stderr), contents(directory)


@posix
def test_without_an_output_the_run_is_the_same(results):
    status, err, files = results["closed output"].result()
    assert (status, err) == (0, "")
    assert set(files) == set(OUTPUT_FILES)


# ---- XLA -----------------------------------------------------------------------------------------


def test_without_xla_the_uncompiled_epoch_trains(monkeypatch, small_file, tmp_path, capsys):
    ordinary_function = tf.function

    def function(*args, jit_compile=None, **kwargs):
        if not jit_compile:
            return ordinary_function(*args, **kwargs)

        def fail(*args):
            raise tf.errors.UnimplementedError(None, None, "no XLA in\nthis build")

        return fail

    monkeypatch.setattr(tf, "function", function)
    output = tmp_path / "new"
    arguments = ["--data", str(small_file), "--epochs", "1", "--output-dir", str(output)]
    assert vae_mnist.main(arguments) == 0
    assert capsys.readouterr().err == (
        "note: XLA is not available here (no XLA in this build); training without it, more "
        "slowly.\n"
    )
    assert tuple(sorted(contents(output))) == OUTPUT_FILES


# ---- The parts of the script ---------------------------------------------------------------------


def parts():
    """The lines of the head, of Part I and of Part II."""
    lines = SCRIPT.read_text().splitlines()
    one = next(i for i, line in enumerate(lines) if line.startswith("# ==== Part I: the chapter"))
    two = next(i for i, line in enumerate(lines) if line.startswith("# ==== Part II: around it"))
    return lines[:one], lines[one:two], lines[two:]


USE_OF_THE_CHAPTER = """
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (40, 784))
model = VAE()
history = train(model, images, images[:20], epochs=2, batch_size=20, rng=rng)
z, _ = encode(model, images)
reconstructions_figure(scale(images[:3]), model.decode_pixels(z[:3]))
latent_scatter_figure(z, np.arange(40) % 3)
manifold_figure(model.decode_pixels(manifold_codes()))
training_curves_figure(history)
print(neighbour_accuracy(z, np.arange(40) % 3, z, np.arange(40) % 3))
"""


def chapter(small_file, directory):
    """Runs head and Part I alone, from a file: AutoGraph reads the source."""
    head, chapter, _ = parts()
    program = "\n".join(head + chapter) + USE_OF_THE_CHAPTER
    (directory / "chapter.py").write_text(program)
    return run_python("import chapter", PYTHONPATH=str(directory))


def test_the_chapter_runs_without_what_surrounds_it(results):
    assert 0 <= float(results["chapter"].result()) <= 1


BACKGROUND = {"left reader": left_reader, "closed output": closed_output, "chapter": chapter}
if os.path.exists("/dev/full"):
    BACKGROUND["full output"] = full_output
