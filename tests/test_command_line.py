"""Options, their faults, and the one line that each fault of the user ends in."""

import gzip
import json
import pickle

import numpy as np
import pytest
from conftest import IDX_NAMES, contents, exit_status, finish, start_script, write_idx

import vae_mnist


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        """The file will be at `path`."""
        self.path = path

    def __reduce__(self):
        """Pickled as a call that writes the file."""
        return (open, (self.path, "w"))


# Each function makes a data set that is wrong in one way, from good arrays, and returns its path;
# the text is what the message must name.


def npz(tmp_path, digits, **changes):
    path = tmp_path / "größe and space.npz"
    arrays = {key: array for key, array in (digits | changes).items() if array is not None}
    np.savez(path, **arrays)
    return path


def truncated_npz(tmp_path, digits):
    path = npz(tmp_path, digits)
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def corrupt_npz(tmp_path, digits):
    path = npz(tmp_path, digits)
    content = bytearray(path.read_bytes())
    content[5000] ^= 255
    path.write_bytes(content)
    return path


def text_file(tmp_path, digits):
    path = tmp_path / "notes.npz"
    path.write_text("no digits here")
    return path


def single_array(tmp_path, digits):
    path = tmp_path / "digits.npy"
    np.save(path, digits["x_train"])
    return path


def pickled(tmp_path, digits):
    return npz(tmp_path, digits, y_test=np.array([Trap(tmp_path / "sprung"), None], dtype=object))


def bare_pickle(tmp_path, digits):
    path = tmp_path / "digits.npz"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    return path


def idx(key, change, compress=False):
    """The four IDX files, the content of that of `key` changed."""

    def make(tmp_path, digits):
        directory = write_idx(tmp_path / "idx ä", digits, compress)
        path = directory / (IDX_NAMES[key] + (".gz" if compress else ""))
        path.write_bytes(change(path.read_bytes()))
        return directory

    return make


def dimension(index, value):
    """A change of an IDX header: dimension `index` becomes `value`."""
    return lambda content: (
        content[: 4 + 4 * index] + value.to_bytes(4, "big") + content[8 + 4 * index :]
    )


def without_a_file(tmp_path, digits):
    directory = write_idx(tmp_path / "idx", digits)
    (directory / IDX_NAMES["y_test"]).unlink()
    return directory


def directory_for_a_file(tmp_path, digits):
    directory = without_a_file(tmp_path, digits)
    (directory / IDX_NAMES["y_test"]).mkdir()
    return directory


def changed(**changes):
    return lambda tmp_path, digits: npz(
        tmp_path, digits, **{key: change(digits[key]) for key, change in changes.items()}
    )


BAD_DATA = {
    "a path that does not exist": (lambda tmp_path, digits: tmp_path / "nö where", "nö where"),
    "an empty directory": (lambda tmp_path, digits: tmp_path, "train-labels-idx1-ubyte, t10k-im"),
    "a directory without one file": (without_a_file, "lacks t10k-labels-idx1-ubyte;"),
    "a directory in place of a file": (directory_for_a_file, "lacks t10k-labels-idx1-ubyte;"),
    "an empty file": (idx("x_test", lambda content: b""), "t10k-images-idx3-ubyte: ends within"),
    "a truncated gzip file": (
        idx("x_train", lambda content: content[:-20], compress=True),
        "train-images-idx3-ubyte.gz: cannot be read",
    ),
    "a corrupt gzip file": (
        idx("x_train", lambda content: content[:500] + b"\xff\0\xff" + content[503:], True),
        "train-images-idx3-ubyte.gz: cannot be read",
    ),
    "no gzip file": (
        idx("y_train", gzip.decompress, compress=True),
        "train-labels-idx1-ubyte.gz: cannot be read (Not a gzipped file",
    ),
    "no IDX file": (idx("y_test", lambda content: b"1,2,3,4"), "no IDX header"),
    "an IDX file of floats": (
        idx("y_test", lambda content: b"\0\0\x0d" + content[3:]),
        "no IDX header for unsigned bytes",
    ),
    "an IDX header cut off": (idx("x_test", lambda content: content[:9]), "ends within its header"),
    "a truncated IDX file": (idx("x_test", lambda content: content[:-1]), "the file holds 47,039"),
    "a longer IDX file": (idx("x_test", lambda content: content + b"!"), "the file holds more"),
    "a huge dimension": (idx("x_test", dimension(0, 2**31)), "promises 1,683,627,180,032 values"),
    "a negative dimension": (idx("x_test", dimension(1, 2**32 - 1)), "the file holds 47,040"),
    "a bomb: a promise in a small gzip file": (
        idx(
            "x_test",
            lambda content: gzip.compress(dimension(0, 2**32 - 1)(gzip.decompress(content))),
            compress=True,
        ),
        "promises 3,367,254,359,280 values",
    ),
    "255 dimensions": (
        idx("x_test", lambda content: b"\0\0\x08\xff" + 255 * b"\0\0\0\x01" + b"!"),
        "t10k-images-idx3-ubyte: cannot be read",
    ),
    "a truncated npz file": (truncated_npz, "größe and space.npz: cannot be read (no complete"),
    "a corrupt npz file": (corrupt_npz, "größe and space.npz: cannot be read (Bad CRC-32"),
    "a text file": (text_file, "notes.npz: cannot be read (no complete .npz file)"),
    "an npy file": (single_array, "digits.npy: cannot be read (no complete .npz file)"),
    "an npz file without a key": (changed(y_test=lambda labels: None), "lacks y_test;"),
    "an npz file without two keys": (
        changed(y_train=lambda labels: None, x_test=lambda images: None),
        "lacks y_train, x_test;",
    ),
    "an npz file with Python objects": (pickled, "Object arrays cannot be loaded"),
    "a pickle": (bare_pickle, "digits.npz: cannot be read"),
    "images of another size": (changed(x_test=lambda images: images[:, :27]), "shape (60, 27, 28)"),
    "flat images": (changed(x_train=lambda images: images.reshape(-1, 784)), "shape (240, 784)"),
    "colour images": (changed(x_train=lambda images: images[..., None]), "(240, 28, 28, 1)"),
    "pixels above 255": (
        changed(x_train=lambda images: images.astype(int) + 300),
        "pixels from 300 to 555",
    ),
    "pixels below 0": (
        changed(x_test=lambda images: images.astype(int) - 256),
        "test set: pixels from -256 to -1",
    ),
    "pixels in [0, 1]": (
        changed(x_train=lambda images: images / 255),
        "pixels of type float64; they must be whole numbers from 0 to 255: scale them",
    ),
    "pixels that are not a number": (
        changed(x_test=lambda images: images * np.float32("nan")),
        "pixels of type float32",
    ),
    "pixels as text": (changed(x_test=lambda images: images.astype(str)), "pixels of type <U3"),
    "fewer labels than images": (
        changed(y_test=lambda labels: labels[:-1]),
        "60 images but 59 labels",
    ),
    "labels one-hot": (changed(y_test=lambda labels: np.eye(10)[labels]), "labels of shape (60, 1"),
    "labels as text": (changed(y_test=lambda labels: labels.astype(str)), "type <U3"),
    "no training images": (
        changed(x_train=lambda images: images[:0], y_train=lambda labels: labels[:0]),
        "training set: holds no images",
    ),
    "no test images": (
        changed(x_test=lambda images: images[:0], y_test=lambda labels: labels[:0]),
        "test set: holds no images",
    ),
    "fewer training images than a batch": (
        changed(x_train=lambda images: images[:130], y_train=lambda labels: labels[:130]),
        "fewer training images (120) than a batch; choose a --batch-size below 128",
    ),
}

BAD_OPTIONS = {
    "epochs 0": (["--epochs", "0"], "--epochs: must be a whole number of at least 1, not '0'"),
    "epochs not whole": (["--epochs", "1.5"], "--epochs"),
    "batch size below 1": (["--batch-size=-1"], "--batch-size"),
    "learning rate 0": (["--learning-rate", "0"], "--learning-rate: must be a number above 0"),
    "learning rate infinite": (["--learning-rate", "inf"], "--learning-rate"),
    "negative KL weight": (["--kl-weight", "-1"], "--kl-weight: must be a number of at least 0"),
    "KL weight no number": (["--kl-weight", "nan"], "--kl-weight"),
    "seed below 0": (["--seed", "-1"], "--seed"),
    "seed too large": (["--seed", "4294967296"], "--seed"),
    "unknown loss": (["--reconstruction-loss", "hinge"], "hinge"),
    "unknown option": (["--epoch", "3"], "--epoch"),
    "value missing": (["--data"], "--data"),
    "a file for a directory": (["--output-dir", vae_mnist.__file__], "vae_mnist.py: cannot be"),
    "a path through a file": (["--output-dir", f"{vae_mnist.__file__}/x"], "Not a directory"),
    "a directory that can't be created": (["--output-dir", "/proc/möglich"], "/proc/möglich"),
}


@pytest.fixture
def refused(output, monkeypatch, capsys):
    """Runs the program, which must refuse before it trains; returns the one line of its error."""

    def run(*arguments):
        monkeypatch.setattr(vae_mnist, "train", lambda *args, **kwargs: pytest.fail("it trains"))
        before = contents(output)
        status = exit_status("--output-dir", output, *arguments)
        out, err = capsys.readouterr()
        assert contents(output) == before
        assert status == 2
        assert out == ""
        assert err.startswith("vae_mnist.py: error: ")
        assert err.count("\n") == 1
        return err

    return run


@pytest.mark.parametrize(("make", "culprit"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_refused_in_one_line(make, culprit, tmp_path, digits, refused):
    assert culprit in refused("--data", make(tmp_path, digits))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(("arguments", "culprit"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_a_bad_option_is_refused_in_one_line(arguments, culprit, small_file, refused):
    assert culprit in refused("--data", small_file, *arguments)


def test_the_trap_of_the_pickle_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung"))).close()
    assert (tmp_path / "sprung").exists()


def test_a_refusal_shows_no_traceback_and_exits_with_2(tmp_path):
    process = start_script("--data", tmp_path / "missing", "--output-dir", tmp_path / "new")
    status, out, err = finish(process)
    assert (status, out) == (2, "")
    assert err.startswith(f"vae_mnist.py: error: {tmp_path / 'missing'}: no such file")
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_bug_keeps_its_traceback(monkeypatch, small_file, tmp_path):
    monkeypatch.setattr(vae_mnist, "train", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vae_mnist.main(["--data", str(small_file), "--output-dir", str(tmp_path / "new")])


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


def test_the_options_reach_the_training_and_the_record(small_file, tmp_path, capsys):
    output = tmp_path / "neue größe" / "ディレクトリ"
    status = vae_mnist.main(
        [
            *("--data", str(small_file), "--output-dir", str(output)),
            *("--epochs", "2", "--batch-size", "50", "--learning-rate", "0.002", "--seed", "7"),
            *("--reconstruction-loss", "cross-entropy", "--kl-weight", "0.5"),
        ]
    )
    assert status == 0
    metrics = json.loads((output / "metrics.json").read_text())
    test = metrics.pop("test")
    assert 0 <= metrics.pop("neighbour_accuracy") <= 1
    assert metrics == {
        "data": str(small_file),
        "train_images": 220,
        "test_images": 60,
        "epochs": 2,
        "batch_size": 50,
        "learning_rate": 0.002,
        "reconstruction_loss": "cross-entropy",
        "kl_weight": 0.5,
        "seed": 7,
    }
    assert test["loss"] == pytest.approx(test["reconstruction"] + 0.5 * test["kl"])
    assert test["reconstruction"] > 200  # nats of a cross-entropy that has hardly been trained
    assert f"= {test['reconstruction']:.4f} reconstruction + 0.5 x" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_the_run(small_file, output, capsys):
    before = contents(output)
    arguments = ["--data", str(small_file), "--output-dir", str(output), "--learning-rate", "1e9"]
    assert vae_mnist.main(arguments) == 2
    err = capsys.readouterr().err
    assert "no longer finite in epoch 1; try a learning rate below 1e+09" in err
    assert err.count("\n") == 1
    assert contents(output) == before


def test_a_collapsed_code_is_reported_in_one_line(small_file, tmp_path, capsys):
    arguments = ["--data", str(small_file), "--output-dir", str(tmp_path / "new")]
    assert vae_mnist.main([*arguments, "--epochs", "40", "--kl-weight", "1000"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("note: the code has collapsed (KL below 0.05 nats)")
    assert err.count("\n") == 1


def test_in_a_terminal_the_row_is_redrawn_with_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    row = {"loss": 155.123, "reconstruction": 150.0, "kl": 5.123, "validation_loss": 156.0}
    monkeypatch.setattr(vae_mnist.time, "monotonic", lambda: 123.0)
    vae_mnist.print_row({"epoch": 1} | row, epochs=2, start=0.0)
    vae_mnist.print_row({"epoch": 2} | row, epochs=2, start=0.0)
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["epoch", "loss", "reconstruction", "KL", "validation", "loss"]
    assert "155.12          150.00    5.12           156.00  [#####.....] " in first
    assert first.endswith(" 123 s left")
    assert second.startswith("\x1b[A\x1b[K    2")
    assert "[##########] 0 s left" in second
    assert len(first) < 80
