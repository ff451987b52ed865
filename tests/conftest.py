"""What the tests share: the script as a child process, data sets to order, models and runs."""

import functools
import gc
import gzip
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "vae_mnist.py"
BUNDLED = ROOT / "data" / "mnist_5k.npz"
KEYS = ("x_train", "y_train", "x_test", "y_test")
IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
OUTPUT_FILES = (
    "explorer.html",
    "history.csv",
    "latent_scatter.png",
    "manifold.png",
    "metrics.json",
    "reconstructions.png",
    "training_curves.png",
    "vae.keras",
)
OFFLINE = {"https_proxy": "http://127.0.0.1:9"}  # nothing listens at the discard port

sys.path.insert(0, str(ROOT))
os.environ["KERAS_BACKEND"] = "jax"  # as a user may have set it


def process_settings():
    """What a script might set for its process, and this one leaves as it is."""
    collector, handlers = (
        gc.isenabled(),
        [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
    )
    return collector, handlers, sys.stdout.__class__, sys.excepthook, socket.getdefaulttimeout()


SETTINGS_BEFORE_THE_IMPORT = process_settings()

import vae_mnist  # noqa: E402

# ---- The script as a program ---------------------------------------------------------------------


def start(*command, **environment):
    """Starts a program of Python; `environment` is added to this process' own."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def finish(process):
    """Waits for a started program: its exit status, its output, its errors."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, without_notices(err)


def without_notices(err):
    """`err` without the notices that TensorFlow prints before it reads its settings."""
    notice = re.compile(r"WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:")
    return "".join(line for line in err.splitlines(keepends=True) if not notice.match(line))


def exit_status(*arguments):
    """The status that the program ends with, also where argparse ends it by an exception."""
    try:
        return vae_mnist.main([*map(str, arguments)])
    except SystemExit as stop:
        return stop.code


def contents(directory):
    """What a directory holds: bytes by name."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture
def output(tmp_path):
    """An output directory that already holds a file of each kind."""
    directory = tmp_path / "old results"
    directory.mkdir()
    for name in OUTPUT_FILES:
        (directory / name).write_text(f"old {name}")
    return directory


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


# ---- Data sets -----------------------------------------------------------------------------------


def idx_bytes(array):
    """`array` of uint8 in the IDX format."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(directory, arrays, compress=False):
    """Writes the four IDX files of `arrays`, a dict with KEYS, and returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for key, name in IDX_NAMES.items():
        content = idx_bytes(arrays[key])
        if compress:
            (directory / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (directory / name).write_bytes(content)
    return directory


@pytest.fixture(scope="session")
def digits():
    """A few of the bundled digits, as a dict with KEYS."""
    with np.load(BUNDLED) as archive:
        return {key: archive[key][: 240 if "train" in key else 60] for key in KEYS}


@pytest.fixture(scope="session")
def data():
    """The bundled digits, loaded by the script."""
    return vae_mnist.load_data(BUNDLED)


@pytest.fixture(scope="session")
def small_file(tmp_path_factory, digits):
    """An .npz file of the few digits, for all tests: none may change it."""
    path = tmp_path_factory.mktemp("data") / "few digits.npz"
    np.savez(path, **digits)
    return path


# ---- Models and runs -----------------------------------------------------------------------------


@functools.cache
def trained(reconstruction_loss):
    """A small model trained on the bundled digits, and these; with the squared error, well."""
    data = vae_mnist.load_data(BUNDLED)
    vae_mnist.keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae_mnist, "HIDDEN_SIZE", 64)
        model = vae_mnist.VAE(reconstruction_loss=reconstruction_loss)
    epochs = 20 if reconstruction_loss == "squared-error" else 1
    vae_mnist.train(model, data.x_train, data.x_validation, epochs=epochs, rng=0, xla=False)
    return model, data


@pytest.fixture
def eagerly():
    """Steps without a graph, which takes longer to make than it saves in a few steps."""
    vae_mnist.tf.config.run_functions_eagerly(True)
    yield
    vae_mnist.tf.config.run_functions_eagerly(False)


@pytest.fixture
def model():
    """An untrained model, always the same."""
    vae_mnist.keras.utils.set_random_seed(0)
    return vae_mnist.VAE()


FINISHED = {"epochs": 40, "batch-size": 20, "learning-rate": 0.002, "seed": 11, "kl-weight": 0.5}
FINISHED["reconstruction-loss"] = "cross-entropy"


def run_options(options):
    """The arguments of the command line for a dict of options."""
    return [part for name, value in options.items() for part in (f"--{name}", value)]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, small_file):
    """The directory of a run on the few digits, with no option at its default."""
    directory = tmp_path_factory.mktemp("finished") / "größe" / "ディレクトリ"
    assert exit_status("--data", small_file, "--output-dir", directory, *run_options(FINISHED)) == 0
    return directory


@pytest.fixture(scope="session")
def default_runs(tmp_path_factory):
    """Two runs of the script without a network, side by side, as a user makes them.

    The second has no folder of the page beside it. For each its status, output, errors, directory.
    """
    alone = tmp_path_factory.mktemp("alone")
    shutil.copy(SCRIPT, alone)
    shutil.copytree(BUNDLED.parent, alone / BUNDLED.parent.name)
    directories = [tmp_path_factory.mktemp("run") / "output" for _ in range(2)]
    processes = [
        start(
            *(script, "--epochs", 3, "--output-dir", directory),
            **OFFLINE,
            KERAS_HOME=str(directory.parent),
        )
        for script, directory in zip((SCRIPT, alone / SCRIPT.name), directories, strict=True)
    ]
    return [
        (*finish(process), directory)
        for process, directory in zip(processes, directories, strict=True)
    ]
