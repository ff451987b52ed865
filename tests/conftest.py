"""What the tests share: the script as a child process, data sets to order, and a model."""

import functools
import gzip
import os
import re
import signal
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

sys.path.insert(0, str(ROOT))

# The background job of a shell ignores Ctrl-C, and its children would.
signal.signal(signal.SIGINT, signal.default_int_handler)

import vae_mnist  # noqa: E402


def start_script(*arguments, **environment):
    """Starts the script as a user does; `environment` is added to this process' own."""
    return subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def finish(process):
    """Waits for a started script: its exit status, its output, its errors.

    The errors are without the notices that TensorFlow prints before it reads its settings.
    """
    out, err = process.communicate(timeout=120)
    own = [
        line
        for line in err.splitlines(keepends=True)
        if not re.match(r"WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:", line)
    ]
    return process.returncode, out, "".join(own)


def exit_status(*arguments):
    """The status that the program ends with, also where argparse ends it by an exception."""
    try:
        return vae_mnist.main([*map(str, arguments)])
    except SystemExit as stop:
        return stop.code


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


@functools.cache
def trained(reconstruction_loss="squared-error"):
    """A model trained for a few seconds on the bundled digits, and these."""
    data = vae_mnist.load_data(BUNDLED)
    vae_mnist.keras.utils.set_random_seed(0)
    model = vae_mnist.VAE(reconstruction_loss)
    settings = {"epochs": 50, "batch_size": 128, "learning_rate": 0.001}
    rng = np.random.default_rng(0)
    list(vae_mnist.train(model, data.x_train, data.x_validation, rng=rng, **settings))
    return model, data


@pytest.fixture
def model():
    """An untrained model, always the same."""
    vae_mnist.keras.utils.set_random_seed(0)
    return vae_mnist.VAE()


@pytest.fixture
def output(tmp_path):
    """An output directory that already holds a file of each kind."""
    directory = tmp_path / "old results"
    directory.mkdir()
    for name in OUTPUT_FILES:
        (directory / name).write_text(f"old {name}")
    return directory


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


def contents(directory):
    """What a directory holds: bytes by name."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
