"""What the tests share: the script as a child process, data sets to order, trained models."""

import functools
import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vae_mnist

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "vae_mnist.py"
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
    "samples.png",
    "training_curves.png",
    "vae.keras",
)
LOSS_NAMES = ("loss", "reconstruction", "kl")
LOG_NAMES = (*LOSS_NAMES, "kl_weight", *(f"val_{name}" for name in LOSS_NAMES))
OLD = {name: f"old {name}".encode() for name in OUTPUT_FILES}  # of an earlier run

# ---- The script as a program ---------------------------------------------------------------------


def start(*command, **environment):
    """Start a Python program; `environment` is added to that of this process."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )


def finish(process):
    """Wait for a started program; return its exit status, its output and its errors.

    TensorFlow's notices, which it prints before it reads its settings, are left out.
    """
    out, err = process.communicate(timeout=120)
    notice = re.compile(r"WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:")
    lines = [line for line in err.splitlines(keepends=True) if not notice.match(line)]
    return process.returncode, out, "".join(lines)


def exit_status(*arguments):
    """Return the exit status of the program, also where argparse ends it by an exception."""
    try:
        return vae_mnist.main([*map(str, arguments)])
    except SystemExit as stop:
        return stop.code


def contents(directory):
    """Return the files of a directory, bytes by name."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


# ---- Data sets -----------------------------------------------------------------------------------


@functools.cache
def mnist():
    """Return the full MNIST in the layout of Keras, a dict with KEYS."""
    with np.load(ROOT / "data" / "mnist.npz") as archive:
        return {key: archive[key] for key in KEYS}


def slice_of_mnist(train, test):
    """Return the first training and test images of MNIST with their labels, a dict with KEYS."""
    return {key: array[: train if "train" in key else test] for key, array in mnist().items()}


@functools.cache
def some_digits():
    """Return 3,667 training, 333 validation and 1,000 test images of MNIST."""
    digits = slice_of_mnist(4000, 1000)
    x, x_test = (digits[key].reshape(-1, 784) for key in ("x_train", "x_test"))
    y, y_test = digits["y_train"], digits["y_test"]
    sets = (x[333:], y[333:], x[:333], y[:333], x_test, y_test)
    return vae_mnist.Data("MNIST", *sets, classes=np.arange(10))


def write_idx(directory, arrays, compress=False):
    """Write the four IDX files of `arrays`, a dict with KEYS, and return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for key, name in IDX_NAMES.items():
        array = arrays[key]
        content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        content += array.tobytes()
        path = directory / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(content) if compress else content)
    return directory


def evaluation_noise(count, latent_size, seed):
    """Return the noise with which `VAE.evaluate` samples latent codes."""
    return vae_mnist.tf.random.stateless_normal((count, latent_size), [seed, -1])


# ---- Models --------------------------------------------------------------------------------------


@functools.cache
def trained(reconstruction_loss):
    """Return a small model and the digits it is trained on; with squared error, well."""
    data = some_digits()
    vae_mnist.keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae_mnist, "HIDDEN_SIZE", 64)
        model = vae_mnist.VAE(reconstruction_loss=reconstruction_loss)
    epochs = 20 if reconstruction_loss == "squared-error" else 1
    model.compile(optimizer=vae_mnist.adam(), jit_compile=False)
    model.fit(data.x_train, epochs=epochs, seed=0, verbose=0)
    return model, data


def losses_of(model, images):
    """Return the mean losses of images as `evaluate` names them, without its compilation."""
    reconstruction, kl = (float(np.mean(terms)) for terms in model.image_losses(images))
    loss = reconstruction + model.kl_weight * kl
    return {"loss": loss, "reconstruction": reconstruction, "kl": kl}


FINISHED = {  # the options of a run, none of which has its default
    "epochs": 12,
    "batch-size": 20,
    "learning-rate": 0.002,
    "seed": 11,
    "kl-weight": 0.5,
    "reconstruction-loss": "cross-entropy",
}
