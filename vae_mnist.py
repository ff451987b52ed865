# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "tensorflow>=2.16",
#     "numpy>=1.25",
#     "scipy",
#     "matplotlib>=3.9",
# ]
# ///
"""A variational autoencoder (VAE) that learns MNIST digits through a code of two numbers.

    784 pixels -> 256 -> (2 means, 2 log-variances) -> z, 2 numbers -> 256 -> 784 pixels

The encoder gives every image a normal distribution over the plane, a code z is drawn from it, and
the decoder paints the image again from z. Training minimises, per image, the error of that
reconstruction plus the Kullback-Leibler (KL) divergence of the code's distribution from the
standard normal: the negative evidence lower bound of Kingma & Welling, "Auto-Encoding Variational
Bayes" (2013).

    python vae_mnist.py            trains for 50 epochs and writes pictures to outputs/
    python vae_mnist.py --help     lists the options

The script reads in this order: data, model, loss, training, figures, files, command line. Pixels
are in [0, 1], losses in nats per image.
"""

import argparse
import csv
import functools
import gzip
import hashlib
import io
import json
import math
import os
import queue
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
import zlib
from collections import deque
from pathlib import Path
from typing import NamedTuple

# Read by Keras and TensorFlow as they are imported. The user's Keras may be set to another
# framework; the rest silences TensorFlow's notices as far as it allows (oneDNN has no part in the
# compiled training).
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from scipy.spatial import cKDTree
from scipy.special import ndtri

IMAGE_SIDE = 28
IMAGE_SIZE = IMAGE_SIDE**2
HIDDEN_SIZE = 256
LATENT_SIZE = 2  # the scatter and the manifold are pictures of a plane
EVALUATION_BATCH = 1000  # images evaluated at once: bounds the memory, not the result
COLLAPSED_KL = 0.05  # nats; below it the code tells nothing about the image
NEIGHBOURS = 25  # that vote on the class of a code
MANIFOLD_SIDE = 15  # digits along each axis of the manifold
FIGURE_DPI = 200  # of the files
PINNED_DIGITS = 10  # that the explorer keeps
# Petroff's ten colours, made to be told apart by the colour-blind; digits that look alike, and so
# lie side by side in the plane, get the ones that differ most.
CLASS_COLOURS = (
    "#b9ac70",  # 0
    "#a96b59",  # 1
    "#94a4a2",  # 2
    "#3f90da",  # 3
    "#832db6",  # 4
    "#ffa90e",  # 5
    "#e76300",  # 6
    "#717581",  # 7
    "#bd1f01",  # 8
    "#92dadd",  # 9
)

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
SERVER_PATIENCE = 5  # seconds to wait for the server, before and during the download
BUNDLED_DIGITS = Path(__file__).resolve().parent / "data" / "mnist_5k.npz"


class InputError(Exception):
    """A fault that the user can mend; its text is one line that says how."""


def note(text):
    """Tells the user, beside the results, what differs from the ordinary run."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def reason(error):
    """What went wrong, for the user, in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()).strip("<>")


# ---- Data ----------------------------------------------------------------------------------------


class Data(NamedTuple):
    """Images as uint8 [count, 784] from 0 to 255, scaled where they are used; labels [count]."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load_data(path=None):
    """Returns the training, validation and test images with their labels as `Data`.

    `path` is an .npz file in Keras' layout, a directory with the four IDX files of MNIST (or of
    Fashion-MNIST, KMNIST, ...), or None for MNIST from Keras' cache, downloaded once. Where that
    fails, a note says so and the bundled digits take its place. The first twelfth of the training
    images is held out for validation. Raises InputError for files that hold no such data.
    """
    if path is None:
        name, path = find_mnist()
    else:
        name = str(path)
    if os.path.isdir(path):
        arrays = read_idx_directory(path)
    elif os.path.isfile(path):
        arrays = read_npz(path)
    else:
        raise InputError(f"{path}: no such file or directory; give an .npz file or a directory")
    x_train, y_train = check_images(*arrays[:2], f"{path}, training set")
    x_test, y_test = check_images(*arrays[2:], f"{path}, test set")
    held_out = max(1, len(x_train) // 12)
    return Data(
        name,
        x_train[held_out:],
        y_train[held_out:],
        x_train[:held_out],
        y_train[:held_out],
        x_test,
        y_test,
    )


def find_mnist():
    """Returns the name and path of the full MNIST or, where it can't be had, of the bundled set."""
    try:
        return "MNIST", download_mnist()
    except OSError as error:
        note(
            f"MNIST could not be downloaded ({reason(error)}); using the 5,000 bundled digits. For "
            "the full set, give its mnist.npz or the directory of its four IDX files with --data."
        )
        return "MNIST, 5,000 bundled digits", BUNDLED_DIGITS


def download_mnist():
    """Returns the path of MNIST in Keras' cache, where it is downloaded to unless it is there.

    Raises OSError where it can't be downloaded.
    """
    keras_home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    if not os.access(keras_home, os.W_OK):  # as Keras itself does
        keras_home = Path(tempfile.gettempdir()) / ".keras"
    cache = keras_home / "datasets"
    cached = cache / "mnist.npz"
    if cached.is_file() and hashlib.sha256(cached.read_bytes()).hexdigest() == MNIST_SHA256:
        return cached
    wait_for_server(MNIST_URL)
    cache.mkdir(parents=True, exist_ok=True)
    # Beside its place and then moved into it, so that no other run reads half a file.
    with tempfile.TemporaryDirectory(dir=cache) as private:
        default_timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(SERVER_PATIENCE)
        try:
            downloaded = keras.utils.get_file(
                "mnist.npz", MNIST_URL, file_hash=MNIST_SHA256, cache_dir=private
            )
        except Exception as error:  # Keras raises a bare Exception or ValueError
            raise ConnectionError(reason(error)) from error
        finally:
            socket.setdefaulttimeout(default_timeout)
        os.replace(downloaded, cached)
    return cached


def wait_for_server(url):
    """Raises ConnectionError unless a server answers at `url` within SERVER_PATIENCE.

    It asks in a thread because the look-up of a name, and the trying of one address of a server
    after the other, outlast any socket's time-out.
    """
    outcome = queue.SimpleQueue()

    def ask():
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD")).close()
            outcome.put(None)
        except Exception as error:  # whatever it is, it is told by the thread that waits
            outcome.put(reason(error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        failure = outcome.get(timeout=SERVER_PATIENCE)
    except queue.Empty:
        failure = f"no answer in {SERVER_PATIENCE} s"
    if failure is not None:
        raise ConnectionError(failure)


def read_npz(path):
    """Returns x_train, y_train, x_test, y_test from the .npz file at `path`."""
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("no complete .npz file")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            missing = [key for key in keys if key not in archive]
            arrays = [archive[key] for key in keys if key not in missing]
    except Exception as error:  # whatever zip, zlib and NumPy make of a damaged file
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); check it or save it again from plain "
            "uint8 arrays"
        ) from error
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; it must hold {', '.join(keys)}")
    return arrays


def read_idx_directory(directory):
    """Returns x_train, y_train, x_test, y_test from the IDX files, plain or .gz, in `directory`."""
    paths = {}
    for split in ("train", "t10k"):
        for content in ("images-idx3", "labels-idx1"):
            name = f"{split}-{content}-ubyte"
            candidates = (os.path.join(directory, name + suffix) for suffix in ("", ".gz"))
            paths[name] = next(filter(os.path.isfile, candidates), None)
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise InputError(
            f"{directory}: lacks {', '.join(missing)}; put the four IDX files there, plain or .gz"
        )
    return [read_idx(path) for path in paths.values()]


def read_idx(path):
    """Returns the uint8 array in the IDX file at `path`, which may be compressed by gzip.

    The header is two zero bytes, the type (8: unsigned byte), the number of dimensions, and each
    dimension as a big-endian 32-bit integer.
    """
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as stream:
            zeros, type_code, dimensions = struct.unpack(">HBB", stream.read(4))
            if (zeros, type_code) != (0, 8):
                raise ValueError("no IDX header for unsigned bytes")
            shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
            size = math.prod(shape)
            # In pieces, because one read would reserve memory for whatever the header promises.
            pixels = bytearray()
            while len(pixels) <= size and (piece := stream.read(1 << 20)):
                pixels += piece
        if len(pixels) != size:
            held = "more" if len(pixels) > size else f"{len(pixels):,}"
            raise ValueError(f"the header promises {size:,} values, the file holds {held}")
        return np.frombuffer(pixels, np.uint8).reshape(shape)
    except struct.error as error:
        raise InputError(f"{path}: ends within its header; download it again") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); check it or download it again"
        ) from error


def check_images(images, labels, source):
    """Returns `images` as uint8 [count, 784] and `labels` [count], or raises InputError."""
    if images.ndim != 3 or images.shape[1:] != (IMAGE_SIDE, IMAGE_SIDE):
        raise InputError(
            f"{source}: images of shape {images.shape}; they must be [count, 28, 28], one value "
            "a pixel"
        )
    if len(images) == 0:
        raise InputError(f"{source}: holds no images; give a data set with some")
    remedy = "they must be whole numbers from 0 to 255: scale them and store them as uint8"
    if images.dtype.kind not in "iu":
        raise InputError(f"{source}: pixels of type {images.dtype}; {remedy}")
    if images.min() < 0 or images.max() > 255:
        raise InputError(f"{source}: pixels from {images.min()} to {images.max()}; {remedy}")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InputError(
            f"{source}: labels of shape {labels.shape} and type {labels.dtype}; they must be one "
            "whole number an image"
        )
    if len(labels) != len(images):
        raise InputError(
            f"{source}: {len(images):,} images but {len(labels):,} labels; give one label an image"
        )
    return images.astype(np.uint8, copy=False).reshape(len(images), IMAGE_SIZE), labels


def scale(images):
    """Images of 0 ... 255 as float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0


# ---- Model ---------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="vae_mnist")
class VAE(keras.Model):
    """Two parts, each useful by itself.

    `encoder`: images [batch, 784] -> z_mean and z_log_sigma_sq, each [batch, 2].
    `decoder`: codes [batch, 2] -> reconstruction [batch, 784]; pixels where the reconstruction
    loss is "squared-error", their logits where it is "cross-entropy".

    The loss belongs to the model, and so to the file that `save` writes. Raises ValueError where
    there is no such loss.
    """

    def __init__(self, reconstruction_loss="squared-error", kl_weight=1.0, name="vae", **kwargs):
        super().__init__(name=name, **kwargs)
        if reconstruction_loss not in RECONSTRUCTION_LOSSES:
            raise ValueError(
                f"reconstruction_loss must be one of {', '.join(RECONSTRUCTION_LOSSES)}"
            )
        self.reconstruction_loss = reconstruction_loss
        self.kl_weight = float(kl_weight)

        x = keras.Input((IMAGE_SIZE,), name="x")
        h1 = keras.layers.Dense(HIDDEN_SIZE, activation="relu", name="h1")(x)
        z_mean = keras.layers.Dense(LATENT_SIZE, name="z_mean")(h1)
        z_log_sigma_sq = keras.layers.Dense(LATENT_SIZE, name="z_log_sigma_sq")(h1)
        self.encoder = keras.Model(x, [z_mean, z_log_sigma_sq], name="encoder")

        z = keras.Input((LATENT_SIZE,), name="z")
        h2 = keras.layers.Dense(HIDDEN_SIZE, activation="relu", name="h2")(z)
        reconstruction = keras.layers.Dense(IMAGE_SIZE, name="reconstruction")(h2)
        self.decoder = keras.Model(z, reconstruction, name="decoder")
        self.built = True

    def get_config(self):
        """What `__init__` needs to make this model again."""
        config = {"reconstruction_loss": self.reconstruction_loss, "kl_weight": self.kl_weight}
        return super().get_config() | config

    def call(self, x, epsilon):
        """Encodes `x`, draws codes with the noise `epsilon`, decodes them.

        Returns z_mean, z_log_sigma_sq, reconstruction.
        """
        z_mean, z_log_sigma_sq = self.encoder(x)
        z = sample_latent(z_mean, z_log_sigma_sq, epsilon)
        return z_mean, z_log_sigma_sq, self.decoder(z)

    def decode_pixels(self, z):
        """Codes [count, 2] -> pixels [count, 784], as the figures show them."""
        reconstruction = self.decoder(z)
        if self.reconstruction_loss == "cross-entropy":
            return tf.sigmoid(reconstruction)
        return reconstruction


def sample_latent(z_mean, z_log_sigma_sq, epsilon):
    """z = mean + sigma * epsilon, all [batch, 2], with epsilon ~ N(0, I).

    The reparameterisation of Kingma & Welling (2013), section 2.4: the randomness enters from
    outside, so gradients flow through the mean and through sigma.
    """
    sigma = tf.exp(0.5 * z_log_sigma_sq)
    return z_mean + sigma * epsilon


# ---- Loss ----------------------------------------------------------------------------------------


def kl_divergence(z_mean, z_log_sigma_sq):
    """KL(N(z_mean, sigma^2) || N(0, I)) of each image, [batch, 2] twice -> [batch], in nats.

    Kingma & Welling (2013), Appendix B.
    """
    return -0.5 * tf.reduce_sum(
        1.0 + z_log_sigma_sq - tf.square(z_mean) - tf.exp(z_log_sigma_sq), axis=-1
    )


def squared_error(x, reconstruction):
    """Half the squared error summed over the pixels of each image, [batch, 784] twice -> [batch].

    In nats: the negative log-likelihood under a Gaussian of variance 1, up to a constant.
    """
    return 0.5 * tf.reduce_sum(tf.square(reconstruction - x), axis=-1)


def cross_entropy(x, logits):
    """Cross-entropy summed over the pixels of each image, [batch, 784] twice -> [batch], in nats.

    The negative log-likelihood under a Bernoulli with p = sigmoid(logits) for every pixel.
    """
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits), axis=-1)


RECONSTRUCTION_LOSSES = {"squared-error": squared_error, "cross-entropy": cross_entropy}


class Losses(NamedTuple):
    """Means over images, in nats: loss = reconstruction + kl_weight * kl."""

    loss: tf.Tensor
    reconstruction: tf.Tensor
    kl: tf.Tensor


def loss_terms(model, x, epsilon):
    """Returns the reconstruction loss and the KL divergence of each image, both [batch]."""
    z_mean, z_log_sigma_sq, reconstruction = model(x, epsilon)
    reconstruction_loss = RECONSTRUCTION_LOSSES[model.reconstruction_loss]
    return reconstruction_loss(x, reconstruction), kl_divergence(z_mean, z_log_sigma_sq)


def mean_losses(reconstruction, kl, kl_weight):
    """The objective and its parts: means over the images, taken here and nowhere else."""
    reconstruction, kl = tf.reduce_mean(reconstruction), tf.reduce_mean(kl)
    return Losses(reconstruction + kl_weight * kl, reconstruction, kl)


# ---- Training ------------------------------------------------------------------------------------


def adam(model, learning_rate):
    """Returns Adam with the original's constants, its state made for the weights of `model`."""
    optimizer = keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    optimizer.build(model.trainable_variables)
    return optimizer


def train_step(model, optimizer, x, epsilon):
    """One step of Adam down the gradient of the objective; returns the batch's `Losses`."""
    with tf.GradientTape() as tape:
        losses = mean_losses(*loss_terms(model, x, epsilon), model.kl_weight)
    gradients = tape.gradient(losses.loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    return losses


def train_epoch(model, optimizer, images, order, epsilon):
    """One step for every batch; returns the mean of their `Losses` as one tensor, [3].

    `images`: uint8 [count, 784]; `order`: the indices of each batch's images, [steps, batch];
    `epsilon`: their noise, [steps, batch, 2].
    """
    means = tf.zeros(len(Losses._fields))
    for step in tf.range(len(order)):
        x = scale(tf.gather(images, order[step]))
        means += tf.stack(train_step(model, optimizer, x, epsilon[step])) / len(order)
    return means  # as it is: whatever XLA has to do after the loop slows the loop itself down


@functools.cache
def xla_available():
    """Whether XLA can compile here; notes it where it can't."""
    try:
        tf.function(tf.exp, jit_compile=True)(tf.zeros([1]))
    except tf.errors.OpError as error:
        note(f"XLA is not available here ({reason(error)}); training without it, more slowly.")
        return False
    return True


def compile_epoch():
    """Returns `train_epoch` compiled by XLA, or as a plain graph where XLA is not available."""
    return tf.function(train_epoch, jit_compile=xla_available())


def draw_epsilon(rng, *shape):
    """Standard normal noise for codes, float32 [*shape, 2], from the NumPy generator `rng`."""
    return rng.standard_normal((*shape, LATENT_SIZE), dtype=np.float32)


def draw_epoch(rng, count, batch_size):
    """Returns the order of an epoch's `count` images, [steps, batch], and noise [steps, batch, 2].

    The order is random; the images that fill no whole batch are left out of this epoch.
    """
    steps = count // batch_size
    order = rng.permutation(count)[: steps * batch_size].reshape(steps, batch_size)
    return tf.constant(order, tf.int32), tf.constant(draw_epsilon(rng, steps, batch_size))


def train(model, x_train, x_validation, *, epochs, batch_size, learning_rate, rng, report):
    """Trains `model` on uint8 images [count, 784] and returns its history, a dict an epoch.

    Each dict, also passed to `report` when its epoch ends, holds the epoch's number and the
    losses and their parts for the training images (means over the epoch, while the model still
    changes) and for the validation images. Raises InputError when the loss is no longer finite.
    """
    run_epoch = compile_epoch()
    optimizer = adam(model, learning_rate)
    images = tf.constant(x_train)
    validation_epsilon = draw_epsilon(rng, len(x_validation))
    history = []
    for epoch in range(1, epochs + 1):
        order, epsilon = draw_epoch(rng, len(x_train), batch_size)
        losses = Losses(*run_epoch(model, optimizer, images, order, epsilon).numpy().tolist())
        validation = evaluate(model, x_validation, validation_epsilon)
        history.append(
            {"epoch": epoch}
            | losses._asdict()
            | {f"validation_{name}": value for name, value in validation._asdict().items()}
        )
        if not all(map(math.isfinite, history[-1].values())):
            raise InputError(
                f"the loss is no longer finite in epoch {epoch}; try a --learning-rate below "
                f"{learning_rate:g}"
            )
        report(history[-1])
    return history


def evaluate(model, images, epsilon):
    """Returns the mean `Losses`, as floats, of uint8 `images` [count, 784] with one code each."""
    reconstruction, kl = in_batches(functools.partial(evaluation_terms, model), images, epsilon)
    return Losses(*map(float, mean_losses(reconstruction, kl, model.kl_weight)))


@tf.function(reduce_retracing=True)
def evaluation_terms(model, images, epsilon):
    return loss_terms(model, scale(images), epsilon)


def encode(model, images):
    """Returns z_mean and z_log_sigma_sq, each [count, 2], of uint8 `images` [count, 784]."""
    return in_batches(lambda batch: model.encoder(scale(batch)), images)


def neighbour_accuracy(codes, labels, test_codes, test_labels):
    """How well the plane separates the classes, from 0 to 1.

    Each of `test_codes` [count, 2] gets the label that most of the 25 nearest `codes` have; the
    accuracy is the share that is right.
    """
    neighbours = range(1, min(NEIGHBOURS, len(codes)) + 1)
    _, nearest = cKDTree(codes).query(test_codes, neighbours)
    classes = np.unique(labels)
    votes = [np.sum(labels[nearest] == label, axis=1) for label in classes]
    return float(np.mean(classes[np.argmax(votes, axis=0)] == test_labels))


def in_batches(function, *arrays):
    """Returns what `function` returns for `arrays`, called on EVALUATION_BATCH rows at a time."""
    outputs = [
        function(*(array[start : start + EVALUATION_BATCH] for array in arrays))
        for start in range(0, len(arrays[0]), EVALUATION_BATCH)
    ]
    return [tf.concat(parts, axis=0) for parts in zip(*outputs, strict=True)]


# ---- Figures -------------------------------------------------------------------------------------


def new_figure(width, height):
    """An empty figure, in inches, that fits its content into its size."""
    return Figure(figsize=(width, height), layout="compressed")


def show_image(axes, pixels, **kwargs):
    """Draws pixels in [0, 1], [height, width], and returns the picture."""
    return axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", **kwargs)


def reconstructions_figure(x, reconstruction):
    """Draws images `x` [count, 784] over their reconstructions [count, 784], pixels in [0, 1]."""
    figure = new_figure(0.8 * len(x) + 0.3, 1.7)
    rows = figure.subplots(2, len(x), squeeze=False)
    for axes_row, label, images in zip(
        rows, ("original", "reconstruction"), (x, reconstruction), strict=True
    ):
        axes_row[0].set_ylabel(label, fontsize=7)
        for axes, image in zip(axes_row, images, strict=True):
            show_image(axes, np.reshape(image, (IMAGE_SIDE, IMAGE_SIDE)))
            axes.set(xticks=[], yticks=[])
    return figure


def latent_scatter_figure(z, labels):
    """Draws codes `z` [count, 2], one colour for each class of `labels` [count].

    The dashed square is the part of the plane that the manifold shows.
    """
    figure = new_figure(6.6, 5.8)
    draw_latent_scatter(figure.subplots(), z, labels)
    return figure


def draw_latent_scatter(axes, z, labels):
    """Draws the scatter of `latent_scatter_figure` into `axes`."""
    classes, class_indices = np.unique(labels, return_inverse=True)
    if len(classes) <= len(CLASS_COLOURS):
        colours = CLASS_COLOURS[: len(classes)]
    else:
        colours = matplotlib.colormaps["turbo"](np.linspace(0, 1, len(classes)))
    edge = manifold_quantiles()[-1]
    limit = 1.05 * max(np.abs(z).max(), edge)
    axes.set(xlabel="$z_1$", ylabel="$z_2$", xlim=(-limit, limit), ylim=(-limit, limit))
    axes.set_aspect("equal")
    points = axes.scatter(
        *np.transpose(z),
        c=class_indices,
        cmap=ListedColormap(colours),
        norm=BoundaryNorm(np.arange(len(classes) + 1) - 0.5, len(classes)),
        s=4,
        linewidths=0,
    )
    bar = axes.figure.colorbar(points, ax=axes, ticks=range(len(classes)), label="class")
    bar.ax.set_yticklabels(classes)
    bar.ax.tick_params(which="both", length=0)
    axes.add_patch(Rectangle((-edge, -edge), 2 * edge, 2 * edge, fill=False, linestyle="--"))
    labelled = []
    for index, label in enumerate(classes):
        centre = np.median(z[class_indices == index], axis=0)
        if all(np.linalg.norm(centre - other) > limit / 18 for other in labelled):  # else overlaps
            labelled.append(centre)
            axes.text(
                *centre,
                label,
                ha="center",
                va="center",
                fontsize=12,
                fontweight="bold",
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )


def manifold_quantiles():
    """Quantiles of the standard normal: equal steps in probability, from 5 % to 95 %."""
    return ndtri(np.linspace(0.05, 0.95, MANIFOLD_SIDE))  # scipy.stats.norm.ppf, faster to import


def manifold_codes():
    """Returns the codes of the manifold's digits, [225, 2]: z_1 runs fastest, both ascend."""
    z_1, z_2 = np.meshgrid(manifold_quantiles(), manifold_quantiles())
    return np.stack([z_1.ravel(), z_2.ravel()], axis=-1).astype(np.float32)


def manifold_figure(pixels):
    """Draws the decoded `manifold_codes`, pixels [225, 784] in [0, 1], z_1 to the right, z_2 up."""
    side = MANIFOLD_SIDE
    tiles = np.reshape(pixels, (side, side, IMAGE_SIDE, IMAGE_SIDE))
    upward = tiles[::-1]  # an image's first row is its top, but the first codes have the lowest z_2
    mosaic = upward.transpose(0, 2, 1, 3).reshape(side * IMAGE_SIDE, side * IMAGE_SIDE)
    figure = new_figure(6.6, 6.6)
    axes = figure.subplots()
    show_image(axes, mosaic, extent=(0, side, 0, side))
    centres = np.arange(side) + 0.5
    quantiles = [f"{value:.2f}" for value in manifold_quantiles().round(2) + 0.0]  # no "-0.00"
    axes.set_xticks(centres, quantiles, fontsize=8)
    axes.set_yticks(centres, quantiles, fontsize=8)
    axes.set(xlabel="$z_1$", ylabel="$z_2$")
    return figure


def training_curves_figure(history):
    """Draws the loss and its parts over the epochs of `history`, as `train` returns it."""
    figure = new_figure(9.0, 2.9)
    epochs = [row["epoch"] for row in history]
    for axes, name, title in zip(
        figure.subplots(1, 3),
        Losses._fields,
        ("loss", "reconstruction loss", "KL divergence"),
        strict=True,
    ):
        axes.plot(epochs, [row[name] for row in history], ".-", markersize=3, label="training")
        axes.plot(
            epochs,
            [row[f"validation_{name}"] for row in history],
            ".--",
            markersize=3,
            label="validation",
        )
        axes.set(title=title, xlabel="epoch", ylabel="nats per image")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    return figure


def explorer_figure(model, z, labels):
    """The scatter as a map to explore in a window.

    Beside it stands the digit decoded at the pointer; a click pins it to the row below.
    """
    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(5, 1))
    left, right = upper.subfigures(1, 2, width_ratios=(3, 2))
    right.set_facecolor("white")
    plane, digit = left.subplots(), right.subplots()
    draw_latent_scatter(plane, z, labels)
    plane.set_title("move over the plane; click to keep a digit", fontsize=10)
    panels = (digit, *lower.subplots(1, PINNED_DIGITS))
    pictures = [show_image(panel, np.zeros((IMAGE_SIDE, IMAGE_SIDE))) for panel in panels]
    for panel, picture in zip(panels, pictures, strict=True):
        panel.set(xticks=[], yticks=[])
        picture.set_visible(False)
    pinned = deque(maxlen=PINNED_DIGITS)

    def draw(index, code):
        pixels = model.decode_pixels(np.array([code], np.float32))
        pictures[index].set_data(np.reshape(pixels, (IMAGE_SIDE, IMAGE_SIDE)))
        pictures[index].set_visible(True)
        separator = "   " if index == 0 else "\n"
        panels[index].set_xlabel(
            f"$z_1$ = {code[0]:.2f}{separator}$z_2$ = {code[1]:.2f}",
            fontsize=11 if index == 0 else 7,
        )

    def on_move(event):
        if event.inaxes is plane:
            draw(0, (event.xdata, event.ydata))
            if figure.canvas.supports_blit:  # paints this part alone, to keep up with the pointer
                figure.draw_artist(right)
                figure.canvas.blit(right.bbox)
            else:
                figure.canvas.draw_idle()

    def on_click(event):
        if event.inaxes is plane and not figure.canvas.widgetlock.locked():  # by zooming, say
            pinned.append((event.xdata, event.ydata))
            for index, code in enumerate(pinned, start=1):
                draw(index, code)
            figure.canvas.draw_idle()

    figure.canvas.mpl_connect("motion_notify_event", on_move)
    figure.canvas.mpl_connect("button_press_event", on_click)
    return figure


def show(figures, directory):
    """Opens `figures`, a dict by name, in windows, or notes that the PNG files take their place."""
    try:
        from matplotlib import pyplot  # which looks for a display

        backend = matplotlib.get_backend()
        pyplot.switch_backend(backend)
        interactive = backend.lower() not in backend_registry.list_builtin(
            BackendFilter.NON_INTERACTIVE
        )
    except ImportError as error:
        backend, interactive = reason(error), False
    if not interactive:
        note(f"no windows can be opened here ({backend}); the pictures are in {directory}.")
        return
    for name, figure in figures.items():
        pyplot.figure(name, FigureClass=lambda figure=figure, **settings: figure)
    pyplot.show()


def png(figure):
    """Returns `figure` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=FIGURE_DPI)
    return buffer.getvalue()


# ---- Files ---------------------------------------------------------------------------------------


def history_csv(history):
    """Returns `history`, a dict an epoch, as the bytes of a CSV file with a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return buffer.getvalue().encode()


def metrics_json(metrics):
    """Returns the dict `metrics` as the bytes of a JSON file."""
    return (json.dumps(metrics, indent=2) + "\n").encode()


def save_model(model, path):
    """Writes `model` to a .keras file: the same model, the same bytes."""
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(parts["metadata.json"])
    del metadata["date_saved"]
    parts["metadata.json"] = json.dumps(metadata)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def load_model(path):
    """Returns the `VAE` in the .keras file at `path`; raises InputError where there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # Keras may give damaged layers new weights
                raise ValueError("the file is damaged")
        model = keras.saving.load_model(path)  # in its safe mode: it runs no code from the file
    except Exception as error:  # whatever zip, HDF5 and Keras make of another or a damaged file
        raise InputError(
            f"{path}: cannot be loaded ({reason(error)}); give a vae.keras that this program wrote"
        ) from error
    if not isinstance(model, VAE):
        raise InputError(f"{path}: holds another model; give a vae.keras that this program wrote")
    return model


def write_files(directory, contents):
    """Writes `contents` to `directory` and returns the paths.

    They are a dict by file name of bytes, or of functions that write to the path they are given.
    All are written beside their places before the first is moved there, so that whatever happens
    each file is the old one or the new one, whole. Raises InputError where that can't be done.
    """
    path = directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=directory, prefix=".unfinished-", ignore_cleanup_errors=True
        ) as unfinished:
            for name, content in contents.items():
                path = directory / name
                if callable(content):
                    content(Path(unfinished, name))
                else:
                    Path(unfinished, name).write_bytes(content)
            for name in contents:
                path = directory / name
                os.replace(Path(unfinished, name), path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({reason(error)}); mend that or choose another --output-dir"
        ) from error
    return [directory / name for name in contents]


# ---- Command line --------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Reports a wrong option as every other fault of the user: in one line."""

    def error(self, message):  # noqa: D102
        raise InputError(f"{message}; see --help")


def number(kind, description, accepts):
    """Returns a converter for argparse: text to a `kind` of number that `accepts` is true for."""

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"must be {description}, not {text!r}")
        return value

    return convert


TRAINING_DEFAULTS = {
    "epochs": 50,
    "batch_size": 128,
    "learning_rate": 0.001,
    "reconstruction_loss": "squared-error",
    "kl_weight": 1.0,
}


def parse_arguments(argv):
    """Returns the options; raises InputError for wrong ones."""
    count = number(int, "a whole number of at least 1", lambda value: value >= 1)
    rate = number(float, "a number above 0", lambda value: 0 < value < math.inf)
    weight = number(float, "a number of at least 0", lambda value: 0 <= value < math.inf)
    seed = number(int, "a whole number from 0 to 2**32 - 1", lambda value: 0 <= value < 2**32)
    parser = Parser(
        prog="vae_mnist.py",
        description="Trains a variational autoencoder with a two-number code on MNIST digits and "
        "writes pictures of what it learned.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="an .npz file in Keras' layout or a directory with the four IDX files (default: MNIST "
        "from Keras' cache, downloaded once; the bundled digits where that fails)",
    )

    def add_training_option(name, description, **kwargs):
        default = TRAINING_DEFAULTS[name.strip("-").replace("-", "_")]
        description = f"{description} (default: {default})"
        parser.add_argument(name, help=description, default=argparse.SUPPRESS, **kwargs)

    add_training_option("--epochs", "passes over the training images", type=count, metavar="N")
    add_training_option("--batch-size", "images a step", type=count, metavar="N")
    add_training_option("--learning-rate", "learning rate of Adam", type=rate, metavar="X")
    add_training_option(
        "--reconstruction-loss",
        "error of an image, summed over its pixels",
        choices=RECONSTRUCTION_LOSSES,
    )
    add_training_option("--kl-weight", "weight of the KL divergence", type=weight, metavar="X")
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="same seed, same files (default: 0)"
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("outputs"),
        metavar="DIRECTORY",
        help="where the files go (default: outputs)",
    )
    parser.add_argument(
        "--model", metavar="FILE", help="a vae.keras to evaluate and draw instead of training one"
    )
    parser.add_argument(
        "--show", action="store_true", help="open the figures in windows, with a map to explore"
    )
    options = vars(parser.parse_args(argv))
    for name in TRAINING_DEFAULTS:
        if name in options and options["model"] is not None:
            parser.error(f"--{name.replace('_', '-')}: has no meaning with --model; leave one out")
    return argparse.Namespace(**TRAINING_DEFAULTS | options)


def progress_printer(epochs):
    """Returns a function that prints a row of the history under a common heading.

    In a terminal the row is redrawn, with a bar and the time left; elsewhere each is a plain line.
    """
    in_terminal = sys.stdout.isatty()
    start = time.monotonic()

    def report(row):
        epoch = row["epoch"]
        if epoch == 1:
            print("epoch    loss  reconstruction      KL  validation loss")
        line = (
            f"{epoch:>5}  {row['loss']:6.2f}  {row['reconstruction']:14.2f}  {row['kl']:6.2f}"
            f"  {row['validation_loss']:15.2f}"
        )
        if in_terminal:
            left = (time.monotonic() - start) / epoch * (epochs - epoch)
            done = round(10 * epoch / epochs)
            line += f"  [{'#' * done:.<10}] {left:.0f} s left"
            line = line[: shutil.get_terminal_size().columns - 1]
            if epoch > 1:
                line = "\x1b[A\x1b[K" + line  # one line up, which is cleared
        print(line, flush=True)

    return report


def train_model(options, data, rng):
    """Returns a new model, trained as `options` say, and its history."""
    keras.utils.set_random_seed(options.seed)
    model = VAE(options.reconstruction_loss, options.kl_weight)
    history = train(
        model,
        data.x_train,
        data.x_validation,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        rng=rng,
        report=progress_printer(options.epochs),
    )
    return model, history


def assess_model(model, data, rng):
    """Prints how `model` does on the test images; returns their sampled codes and the results."""
    epsilon = draw_epsilon(rng, len(data.x_test))
    test = evaluate(model, data.x_test, epsilon)
    if not math.isfinite(test.loss):
        raise InputError(f"the test loss is {test.loss}; train another model")
    z_mean, z_log_sigma_sq = encode(model, data.x_test)
    train_codes, _ = encode(model, data.x_train)
    accuracy = neighbour_accuracy(train_codes.numpy(), data.y_train, z_mean.numpy(), data.y_test)
    print(
        f"test loss {test.loss:.4f} = {test.reconstruction:.4f} reconstruction "
        f"+ {model.kl_weight:g} x {test.kl:.4f} KL"
    )
    print(f"accuracy {accuracy:.4f} of the vote of the {NEIGHBOURS} nearest training codes")
    if test.kl < COLLAPSED_KL:
        note(
            f"the code has collapsed (KL below {COLLAPSED_KL} nats): every image has the same "
            "reconstruction; try another --seed or a smaller --kl-weight."
        )
    z = sample_latent(z_mean, z_log_sigma_sq, epsilon).numpy()
    return z, {"test": test._asdict(), "neighbour_accuracy": accuracy}


def describe_run(options, data, model):
    """Returns what was trained or loaded, and on what data, for the record."""
    training = ("epochs", "batch_size", "learning_rate") if options.model is None else ("model",)
    return {
        "data": data.name,
        "train_images": len(data.x_train),
        "test_images": len(data.x_test),
        **{name: getattr(options, name) for name in training},
        "reconstruction_loss": model.reconstruction_loss,
        "kl_weight": model.kl_weight,
        "seed": options.seed,
    }


def run(options):
    """Does what the program does, as the options of `parse_arguments` say."""
    model = None if options.model is None else load_model(options.model)
    data = load_data(options.data)
    if model is None and len(data.x_train) < options.batch_size:
        raise InputError(
            f"{data.name}: fewer training images ({len(data.x_train):,}) than a batch; choose a "
            f"--batch-size below {options.batch_size:,}"
        )
    write_files(options.output_dir, {})  # fails now rather than after the training
    print(
        f"{data.name}: {len(data.x_train):,} training, {len(data.x_validation):,} validation and "
        f"{len(data.x_test):,} test images; losses in nats per image",
        flush=True,
    )

    history = None
    training_rng, test_rng = np.random.default_rng(options.seed).spawn(2)
    if model is None:
        model, history = train_model(options, data, training_rng)
    z, results = assess_model(model, data, test_rng)

    figures = {
        "reconstructions": reconstructions_figure(
            scale(data.x_test[:10]), model.decode_pixels(z[:10])
        ),
        "latent_scatter": latent_scatter_figure(z, data.y_test),
        "manifold": manifold_figure(model.decode_pixels(manifold_codes())),
    }
    files = {"metrics.json": metrics_json(describe_run(options, data, model) | results)}
    if history:
        figures["training_curves"] = training_curves_figure(history)
        files["history.csv"] = history_csv(history)
        files["vae.keras"] = functools.partial(save_model, model)
    files |= {f"{name}.png": png(figure) for name, figure in figures.items()}
    for path in write_files(options.output_dir, files):
        print(f"wrote {path}", flush=True)
    if options.show:
        show({"explorer": explorer_figure(model, z, data.y_test)} | figures, options.output_dir)


def main(argv=None):
    """Runs the program with the arguments `argv` and returns its exit status."""
    try:
        run(parse_arguments(argv))
    except InputError as error:
        print(f"vae_mnist.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vae_mnist.py: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what a terminal can't show
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    tf.config.experimental.enable_op_determinism()  # some operations on a GPU are not otherwise
    sys.exit(main())
