# /// script
# requires-python = ">=3.10"
# dependencies = ["tensorflow>=2.16", "numpy>=1.25", "scipy", "matplotlib>=3.9"]
# ///
"""A variational autoencoder (VAE) that learns MNIST digits through a code of two numbers.

    784 pixels -> 256 -> (2 means, 2 log-variances) -> z, 2 numbers -> 256 -> 784 pixels

The encoder gives every image a normal distribution over the plane, a code z is drawn from it, and
the decoder paints the image again from z. Training minimises, per image, the error of that
reconstruction plus the Kullback-Leibler (KL) divergence of the code's distribution from the
standard normal: the negative evidence lower bound of Kingma & Welling, "Auto-Encoding Variational
Bayes" (2013).

Part I is the chapter: model, loss, training, evaluation, figures. Part II is what surrounds it:
data, files, command line. Stored images hold whole numbers from 0 to 255, `scale` makes them
pixels in [0, 1]; losses are in nats per image. `python vae_mnist.py --help` lists the options.
"""

import gc
import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the slow imports without a traceback
    gc.disable()  # a run leaves next to no garbage: the search for it would only take time

import argparse
import atexit
import base64
import csv
import functools
import gzip
import hashlib
import io
import json
import math
import multiprocessing.pool
import os
import shutil
import struct
import sys
import tempfile
import time
import urllib.request
import uuid
import warnings
import webbrowser
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

# Read by Keras and TensorFlow as they are imported. The user's Keras may be set to another
# framework; the rest silences what notices it can.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import numpy as np
import tensorflow as tf
from matplotlib import colormaps, colors, patches, patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from scipy.special import ndtri

keras.config.set_floatx("float32")  # whatever the user's keras.json says

IMAGE_SIDE = 28
IMAGE_SIZE = IMAGE_SIDE**2
HIDDEN_SIZE = 256
LATENT_SIZE = 2  # numbers in a code; with others than two there is no plane to draw

# ==== Part I: the chapter =========================================================================
# ---- Images --------------------------------------------------------------------------------------

IMAGE_SHAPES = [(IMAGE_SIZE,), (IMAGE_SIDE, IMAGE_SIDE), (IMAGE_SIDE, IMAGE_SIDE, 1)]


def scale(images):
    """Images of whole numbers from 0 to 255 as pixels in [0, 1], float32 [count, 784].

    `images`: [count, 784], [count, 28, 28] or [count, 28, 28, 1], or a single one of these. Raises
    TypeError for numbers that are not whole, ValueError for other shapes.
    """
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_integer:
        raise TypeError(f"images must hold whole numbers from 0 to 255, not {images.dtype.name}")
    shape = tuple(images.shape)
    if shape not in IMAGE_SHAPES and shape[1:] not in IMAGE_SHAPES:
        raise ValueError(f"images must be [count, 28, 28] or [count, 784], not {list(shape)}")
    pixels = tf.cast(images, tf.float32) / 255.0
    return tf.reshape(pixels, [-1, IMAGE_SIZE])


# ---- Model ---------------------------------------------------------------------------------------

RECONSTRUCTION_LOSSES = ("squared-error", "cross-entropy")  # written out under "Loss"


def sample_latent(z_mean, z_log_sigma_sq, epsilon):
    """z = mean + sigma * epsilon, all [batch, 2], with epsilon ~ N(0, I).

    The reparameterisation of Kingma & Welling (2013), section 2.4: the randomness enters from
    outside, so gradients flow through the mean and through sigma.
    """
    sigma = tf.exp(0.5 * z_log_sigma_sq)
    return z_mean + sigma * epsilon


@keras.saving.register_keras_serializable(package="vae_mnist")
class VAE(keras.Model):
    """Two parts, each useful by itself.

    `encoder`: pixels [batch, 784] -> z_mean and z_log_sigma_sq, each [batch, 2].
    `decoder`: codes [batch, 2] -> reconstruction [batch, 784]; pixels where the reconstruction
    loss is "squared-error", their logits where it is "cross-entropy".

    It is trained by `train`, not by `fit`, which would take about twice as long: `train` compiles a
    whole epoch. Loss and KL weight are part of the model and of its file. `kl_weight` is the beta
    of the beta-VAE; 1 gives the evidence lower bound. Raises ValueError for an unknown loss.
    """

    def __init__(self, reconstruction_loss="squared-error", kl_weight=1.0, name="vae", **kwargs):
        super().__init__(name=name, **kwargs)
        if reconstruction_loss not in RECONSTRUCTION_LOSSES:
            raise ValueError(
                "reconstruction_loss must be one of " + ", ".join(RECONSTRUCTION_LOSSES)
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

        self.built = True  # both parts have their weights: it can be saved before its first call

    def get_config(self):
        """What `__init__` needs to make this model again."""
        config = {"reconstruction_loss": self.reconstruction_loss, "kl_weight": self.kl_weight}
        return super().get_config() | config

    def call(self, x, epsilon=0.0):
        """Encodes pixels `x` [batch, 784], draws codes with the noise `epsilon`, decodes them.

        Returns z_mean, z_log_sigma_sq, reconstruction. Without noise the code is the mean. Raises
        TypeError for whole numbers: they would be pixels that are not scaled yet.
        """
        if not x.dtype.is_floating:
            raise TypeError(f"pixels must be in [0, 1], not {x.dtype.name}; see `scale`")
        z_mean, z_log_sigma_sq = self.encoder(x)
        z = sample_latent(z_mean, z_log_sigma_sq, epsilon)
        return z_mean, z_log_sigma_sq, self.decoder(z)

    def decode_pixels(self, z):
        """Codes [count, 2], or a single one -> pixels [count, 784] as shown, a NumPy array."""
        reconstruction = self.decoder(np.array(z, np.float32, ndmin=2))
        if self.reconstruction_loss == "cross-entropy":
            reconstruction = tf.sigmoid(reconstruction)
        return reconstruction.numpy()


# ---- Loss ----------------------------------------------------------------------------------------


def kl_divergence(z_mean, z_log_sigma_sq):
    """KL(N(z_mean, sigma^2) || N(0, I)) of each image, [batch, 2] twice -> [batch], in nats.

    Kingma & Welling (2013), Appendix B.
    """
    sigma_sq = tf.exp(z_log_sigma_sq)
    return -0.5 * tf.reduce_sum(1.0 + z_log_sigma_sq - tf.square(z_mean) - sigma_sq, axis=-1)


def squared_error(x, reconstruction):
    """Half the squared error summed over the pixels of each image, [batch, 784] twice -> [batch].

    In nats: the negative log-likelihood under a Gaussian of variance 1, up to a constant.
    """
    return 0.5 * tf.reduce_sum(tf.square(reconstruction - x), axis=-1)


def cross_entropy(x, logits):
    """Cross-entropy summed over the pixels of each image, [batch, 784] twice -> [batch], in nats.

    The negative log-likelihood under a Bernoulli with p = sigmoid(logits) for every pixel.
    """
    pixel_losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
    return tf.reduce_sum(pixel_losses, axis=-1)


class Losses(NamedTuple):
    """Means over images, in nats: loss = reconstruction + kl_weight * kl."""

    loss: float
    reconstruction: float
    kl: float


def loss_terms(model, images, epsilon):
    """Returns reconstruction loss and KL divergence of each of `images` (see `scale`): [batch]."""
    x = scale(images)
    z_mean, z_log_sigma_sq, reconstruction = model(x, epsilon)
    kl = kl_divergence(z_mean, z_log_sigma_sq)
    if model.reconstruction_loss == "cross-entropy":
        return cross_entropy(x, logits=reconstruction), kl
    return squared_error(x, reconstruction), kl


def mean_losses(reconstruction, kl, kl_weight):
    """The objective and its parts: means over the images, taken here and nowhere else."""
    reconstruction = tf.reduce_mean(reconstruction)
    kl = tf.reduce_mean(kl)
    return Losses(reconstruction + kl_weight * kl, reconstruction, kl)


# ---- Training ------------------------------------------------------------------------------------

# The original's settings.
EPOCHS = 50
BATCH_SIZE = 128
LEARNING_RATE = 0.001


def adam(model, learning_rate):
    """Returns Adam with the original's constants, its state made for the weights of `model`."""
    # 1e-8 is TensorFlow 1's default; Keras' own is 1e-7.
    optimizer = keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    optimizer.build(model.trainable_variables)
    return optimizer


@tf.autograph.experimental.do_not_convert  # only the loop below needs AutoGraph
def train_step(model, optimizer, images, epsilon):
    """One step of Adam down the gradient of the objective; returns the batch's `Losses`."""
    with tf.GradientTape() as tape:
        reconstruction, kl = loss_terms(model, images, epsilon)
        losses = mean_losses(reconstruction, kl, model.kl_weight)
    gradients = tape.gradient(losses.loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    return losses


def train_epoch(model, optimizer, images, order, epsilon):
    """One step for every batch; returns the mean of their `Losses` as one tensor, [3].

    `images`: uint8, [count, ...]; `order`: the indices of each batch's images, [steps, batch];
    `epsilon`: their noise, [steps, batch, 2].
    """
    means = tf.zeros(len(Losses._fields))
    for step in tf.range(len(order)):
        batch = tf.gather(images, order[step])
        losses = train_step(model, optimizer, batch, epsilon[step])
        means += tf.stack(losses) / len(order)
    return means  # as it is: whatever XLA has to do after the loop slows the loop itself down


def compile_epoch(model, optimizer, xla=True):
    """Returns `train_epoch` of this model and optimizer as one function of its other arguments."""
    return tf.function(functools.partial(train_epoch, model, optimizer), jit_compile=xla)


def draw_epsilon(rng, *shape):
    """Standard normal noise for codes, float32 [*shape, 2], from the NumPy generator `rng`."""
    return rng.standard_normal((*shape, LATENT_SIZE), dtype=np.float32)


def draw_epoch(rng, count, batch_size):
    """Returns a random order of `count` images, [steps, batch], and noise [steps, batch, 2]."""
    steps = count // batch_size  # the images that fill no whole batch are left out of this epoch
    order = rng.permutation(count)[: steps * batch_size]
    order = tf.constant(order.reshape(steps, batch_size), tf.int32)
    epsilon = tf.constant(draw_epsilon(rng, steps, batch_size))
    return order, epsilon


def train(
    model,
    x_train,
    x_validation,
    *,
    epochs=EPOCHS,
    batch_size=BATCH_SIZE,
    learning_rate=LEARNING_RATE,
    rng=0,
    xla=True,
    on_epoch=None,
):
    """Trains `model` on images as for `scale`, and returns the history, a dict for each epoch.

    A dict holds the epoch's number and the `Losses` of the training images (means over the epoch,
    while the model still changes) and of the validation images; `on_epoch`, where given, is called
    with it as soon as the epoch ends. Every draw is made by `rng`, a NumPy generator or a seed for
    one; `xla` compiles the epoch. Raises ValueError for a batch of no images or of more than there
    are, and FloatingPointError when a loss is no longer finite.
    """
    if not 1 <= batch_size <= len(x_train):
        raise ValueError(f"a batch of {batch_size} from {len(x_train)} training images")
    scale(x_train[:1])  # what is wrong with the images is told here, not inside the compiled epoch
    images = tf.constant(x_train)
    rng = np.random.default_rng(rng)
    validation_epsilon = draw_epsilon(rng, len(x_validation))
    run_epoch = compile_epoch(model, adam(model, learning_rate), xla)
    validation_terms = compile_loss_terms(model)
    history = []
    for epoch in range(1, epochs + 1):
        order, epsilon = draw_epoch(rng, len(x_train), batch_size)
        means = run_epoch(images, order, epsilon)
        losses = Losses(*means.numpy().tolist())
        validation = evaluate(model, x_validation, validation_epsilon, validation_terms)
        row = {"epoch": epoch} | losses._asdict()
        row |= {f"validation_{name}": value for name, value in validation._asdict().items()}
        if not all(math.isfinite(value) for value in row.values()):
            raise FloatingPointError(
                f"the loss is no longer finite in epoch {epoch}; try a learning rate below "
                f"{learning_rate:g}"
            )
        history.append(row)
        if on_epoch is not None:
            on_epoch(row)
    return history


# ---- Evaluation ----------------------------------------------------------------------------------

EVALUATION_BATCH = 1000  # images evaluated at once: bounds the memory, not the result
NEIGHBOURS = 25  # that vote on the class of a code


def in_batches(function, *arrays):
    """Returns what `function` returns for `arrays`, called on EVALUATION_BATCH rows at a time."""
    count = max(1, len(arrays[0]))  # even no rows make one call, which tells the outputs' shapes
    outputs = []
    for start in range(0, count, EVALUATION_BATCH):
        batch = [array[start : start + EVALUATION_BATCH] for array in arrays]
        outputs.append(function(*batch))
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def compile_loss_terms(model):
    """Returns `loss_terms` of this model as one graph, for those who evaluate it often."""
    return tf.function(functools.partial(loss_terms, model), autograph=False, reduce_retracing=True)


def evaluate(model, images, epsilon, terms=None):
    """Returns the mean `Losses`, as floats, of images as for `scale`, one code each.

    `epsilon` [count, 2] is the noise of the codes; `terms` a `compile_loss_terms(model)`, or else
    it is made here. Raises ValueError where there are no images.
    """
    if len(images) == 0:
        raise ValueError("there are no images to evaluate")
    terms = terms or compile_loss_terms(model)
    reconstruction, kl = in_batches(terms, images, epsilon)
    losses = mean_losses(reconstruction, kl, model.kl_weight)
    return Losses(*(float(mean) for mean in losses))


def encode(model, images):
    """Images as for `scale` -> z_mean and z_log_sigma_sq, each a NumPy array [count, 2]."""
    return in_batches(lambda batch: model.encoder(scale(batch)), images)


def neighbour_accuracy(codes, labels, test_codes, test_labels):
    """The share of `test_codes` [count, 2] whose label most of the 25 nearest `codes` have too."""
    labels = np.asarray(labels)
    count = min(NEIGHBOURS, len(codes))
    ranks = range(1, count + 1)  # as a list, because a bare 1 would drop the axis of the neighbours
    _, nearest = cKDTree(codes).query(test_codes, ranks)
    classes = np.unique(labels)
    votes = [np.sum(labels[nearest] == label, axis=1) for label in classes]
    winners = classes[np.argmax(votes, axis=0)]
    return float(np.mean(winners == np.asarray(test_labels)))


# ---- Figures -------------------------------------------------------------------------------------

# Equal steps in probability, from 5 % to 95 %. `ndtri` is scipy.stats.norm.ppf, faster to import.
MANIFOLD_QUANTILES = ndtri(np.linspace(0.05, 0.95, 15))
GREY = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}  # pixels in [0, 1]
# Petroff's ten colours, made to be told apart by the colour-blind. Digits that look alike lie side
# by side in the plane: they have the colours that differ most.
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


def reconstructions_figure(x, reconstruction):
    """Draws images `x` [count, 784] over their reconstructions [count, 784], pixels in [0, 1]."""
    figure = Figure(figsize=(0.8 * len(x) + 0.3, 1.7), layout="compressed")
    rows = figure.subplots(2, len(x), squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    rows[0, 0].set_ylabel("original", fontsize=7)
    rows[1, 0].set_ylabel("reconstruction", fontsize=7)
    for axes, image in zip(rows.flat, [*x, *reconstruction], strict=True):
        axes.imshow(np.reshape(image, (IMAGE_SIDE, IMAGE_SIDE)), **GREY)
    return figure


def class_colours(count):
    """Returns a colour, "#rrggbb", for each of `count` classes."""
    if count <= len(CLASS_COLOURS):
        return CLASS_COLOURS[:count]
    spread = colormaps["turbo"](np.linspace(0, 1, count))
    return tuple(colors.to_hex(colour) for colour in spread)


def latent_scatter_figure(z, labels, classes=None):
    """Draws codes `z` [count, 2], one colour for each class of `labels` [count].

    `classes`, ascending, are all that the data set has, where `labels` lack some. The dashed square
    is the part of the plane that the manifold shows.
    """
    z = np.asarray(z)
    z_1, z_2 = z.T
    classes = np.unique(labels) if classes is None else np.asarray(classes)
    class_indices = np.searchsorted(classes, labels)
    edge = MANIFOLD_QUANTILES[-1]
    limit = 1.05 * max(np.abs(z).max(), edge)
    figure = Figure(figsize=(6.6, 5.8), layout="compressed")
    axes = figure.subplots(subplot_kw={"aspect": "equal"})
    axes.set(xlabel="$z_1$", ylabel="$z_2$", xlim=(-limit, limit), ylim=(-limit, limit))
    points = axes.scatter(
        z_1,
        z_2,
        c=class_indices,
        cmap=colors.ListedColormap(class_colours(len(classes))),
        norm=colors.BoundaryNorm(np.arange(len(classes) + 1) - 0.5, len(classes)),
        s=4,
        linewidths=0,
    )
    bar = figure.colorbar(points, ax=axes, label="class")
    bar.set_ticks(range(len(classes)), labels=classes)
    bar.ax.tick_params(which="both", length=0)
    square = patches.Rectangle((-edge, -edge), 2 * edge, 2 * edge, fill=False, linestyle="--")
    axes.add_patch(square)
    write_class_names(axes, z, class_indices, classes, limit)
    return figure


def write_class_names(axes, z, class_indices, classes, limit):
    """Writes each class' name at the median of its codes, where no other name is near."""
    named = []
    for index in np.unique(class_indices):
        members = z[class_indices == index]
        x, y = np.median(members, axis=0)
        if len(members) == 1:
            y += limit / 20  # beside the only code, not on it
        if any(math.dist((x, y), other) <= limit / 18 for other in named):
            continue
        named.append((x, y))
        name = axes.text(x, y, classes[index], ha="center", va="center", fontsize=12)
        halo = patheffects.withStroke(linewidth=3, foreground="white")
        name.set(fontweight="bold", path_effects=[halo])


def manifold_codes():
    """Returns the codes of the manifold's digits, [225, 2]: z_1 runs fastest, both ascend."""
    z_1, z_2 = np.meshgrid(MANIFOLD_QUANTILES, MANIFOLD_QUANTILES)
    return np.stack([z_1.ravel(), z_2.ravel()], axis=-1).astype(np.float32)


def manifold_figure(pixels):
    """Draws the decoded `manifold_codes`, pixels [225, 784] in [0, 1], z_1 to the right, z_2 up."""
    side = len(MANIFOLD_QUANTILES)
    tiles = np.reshape(pixels, (side, side, IMAGE_SIDE, IMAGE_SIDE))
    tiles = tiles[::-1]  # highest z_2 at the top
    mosaic = tiles.transpose(0, 2, 1, 3).reshape(side * IMAGE_SIDE, side * IMAGE_SIDE)
    figure = Figure(figsize=(6.6, 6.6), layout="compressed")
    axes = figure.subplots(subplot_kw={"xlabel": "$z_1$", "ylabel": "$z_2$"})
    axes.imshow(mosaic, extent=(0, side, 0, side), **GREY)
    centres = np.arange(side) + 0.5
    quantiles = [f"{value:.2f}" for value in MANIFOLD_QUANTILES.round(2) + 0.0]  # no "-0.00"
    axes.set_xticks(centres, quantiles, fontsize=8)
    axes.set_yticks(centres, quantiles, fontsize=8)
    return figure


def training_curves_figure(history):
    """Draws the loss and its parts over the epochs of `history`, as `train` returns it."""
    figure = Figure(figsize=(9.0, 2.9), layout="compressed")
    epochs = [row["epoch"] for row in history]
    titles = ("loss", "reconstruction loss", "KL divergence")
    for axes, name, title in zip(figure.subplots(1, 3), Losses._fields, titles, strict=True):
        training = [row[name] for row in history]
        validation = [row[f"validation_{name}"] for row in history]
        axes.plot(epochs, training, ".-", markersize=3, label="training")
        axes.plot(epochs, validation, ".--", markersize=3, label="validation")
        axes.set(title=title, xlabel="epoch", ylabel="nats per image")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    return figure


# ==== Part II: around it ==========================================================================


class InputError(Exception):
    """A fault that the user can mend; its text is one line that says how."""


def note(text):
    """Tells the user, beside the results, what differs from the ordinary run."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def reason(error):
    """What went wrong, for the user, in one line."""
    text = str(getattr(error, "strerror", None) or error)
    return " ".join(text.split()).strip("<>")


# ---- Data ----------------------------------------------------------------------------------------

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
SERVER_PATIENCE = 5  # seconds to wait for the server, before and during the download
BUNDLED_DIGITS = Path(__file__).resolve().parent / "data" / "mnist_5k.npz"
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DATA_FORMS = "an .npz file in Keras' layout or the directory of the four IDX files"


class Data(NamedTuple):
    """A data set: images are uint8 [count, 784] from 0 to 255, labels whole numbers [count]."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: np.ndarray  # the labels that occur, ascending


def load_data(path=None):
    """Returns the training, validation and test images with their labels as `Data`.

    `path` is an .npz file in Keras' layout or a directory with the four IDX files of MNIST or its
    kin. Without one, MNIST is taken from Keras' cache, downloaded once; where that fails, a note
    says so and the bundled digits take its place. The first twelfth of the training images is held
    out for validation. Raises InputError for files that hold no such data.
    """
    if path is None:
        name, path = find_mnist()
    else:
        name = str(path)
    if os.path.isdir(path):
        x, y, x_test, y_test = read_idx_directory(path)
    elif os.path.isfile(path):
        x, y, x_test, y_test = read_npz(path)
    else:
        raise InputError(f"{path}: no such file or directory; give {DATA_FORMS}")
    x, y = check_images(x, y, f"{path}, training set")
    x_test, y_test = check_images(x_test, y_test, f"{path}, test set")
    held_out = max(1, len(x) // 12)
    if len(x) == held_out:
        raise InputError(f"{path}, training set: holds one image; give at least two")
    return Data(
        name=name,
        x_train=x[held_out:],
        y_train=y[held_out:],
        x_validation=x[:held_out],
        y_validation=y[:held_out],
        x_test=x_test,
        y_test=y_test,
        classes=np.union1d(y, y_test),
    )


def is_mnist(content):
    """Whether these bytes are the mnist.npz that everyone uses."""
    return hashlib.sha256(content).hexdigest() == MNIST_SHA256


def find_mnist():
    """Returns the name and path of the full MNIST or, where it can't be had, of the bundled set."""
    keras_home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    if not os.access(keras_home, os.W_OK):  # as Keras itself does
        keras_home = Path(tempfile.gettempdir()) / ".keras"
    cached = keras_home / "datasets" / "mnist.npz"
    if cached.is_file() and is_mnist(cached.read_bytes()):
        return "MNIST", cached
    try:
        content = download_mnist()
        if is_mnist(content):
            write_files(cached.parent, {cached.name: content})
            return "MNIST", cached
        failure = "a corrupted file came: its SHA-256 is wrong"
    except (TimeoutError, multiprocessing.TimeoutError):
        failure = f"no answer in {SERVER_PATIENCE} s"
    except Exception as error:  # whatever sockets, TLS, HTTP and proxies make of a bad connection
        failure = reason(error)
    failure = f"MNIST could not be downloaded ({failure})"
    remedy = "give its mnist.npz or the directory of its four IDX files with --data"
    if not BUNDLED_DIGITS.is_file():
        raise InputError(f"{failure} and {BUNDLED_DIGITS} is missing; {remedy}")
    note(f"{failure}; using the 5,000 bundled digits. For the full set, {remedy}.")
    return "MNIST, 5,000 bundled digits", BUNDLED_DIGITS


def download_mnist():
    """Returns the bytes that are at MNIST_URL."""
    # In a thread: to look up a name, or try a server's many addresses, outlasts any time-out.
    with multiprocessing.pool.ThreadPool(1) as thread:
        answer = thread.apply_async(urllib.request.urlopen, [MNIST_URL, None, SERVER_PATIENCE])
        with answer.get(SERVER_PATIENCE) as response:
            print("downloading MNIST, 11 MB", flush=True)
            return response.read()


def unreadable(path, why):
    """An error for the data file at `path`."""
    return InputError(f"{path}: cannot be read ({why}); check it, or give {DATA_FORMS}")


def read_npz(path):
    """Returns x_train, y_train, x_test, y_test from the .npz file at `path`."""
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("no complete .npz file")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: np.asarray(archive[key]) for key in NPZ_KEYS if key in archive}
    except Exception as error:  # whatever zip, zlib and NumPy make of a damaged file
        raise unreadable(path, reason(error)) from error
    missing = [key for key in NPZ_KEYS if key not in arrays]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; it must hold {', '.join(NPZ_KEYS)}")
    return list(arrays.values())


def read_idx_directory(folder):
    """Returns x_train, y_train, x_test, y_test from the four IDX files that `folder` holds."""
    # Some name them with a dot, torchvision puts them deeper; the plain file before the compressed.
    files = sorted([*Path(folder).glob("MNIST/raw/*"), *Path(folder).glob("*")], reverse=True)
    paths = {}
    for file in files:
        name = file.name.replace(".idx", "-idx").removesuffix(".gz")
        if file.is_file():
            paths[name] = file
    missing = ", ".join(name for name in IDX_NAMES if name not in paths)
    if missing:
        held = sorted(file.name for file in files)[:20]
        raise InputError(f"{folder}: lacks {missing}; give all four, plain or .gz; it holds {held}")
    train_images, train_labels, test_images, test_labels = (paths[name] for name in IDX_NAMES)
    x_train = read_idx(train_images)
    y_train = read_idx(train_labels, len(x_train))
    x_test = read_idx(test_images)
    y_test = read_idx(test_labels, len(x_test))
    return x_train, y_train, x_test, y_test


def read_idx(path, labels=None):
    """Returns the uint8 array of an IDX file: 0, 0, 8, how many dimensions, these, the values.

    `labels`: how many it must hold, if it is a file of labels.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            magic, dimensions = struct.unpack(">3sB", stream.read(4))
            if magic != b"\0\0\x08" or dimensions > 3:
                raise unreadable(path, "no IDX header for unsigned bytes")
            shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
            if labels is not None and shape != (labels,):
                raise InputError(
                    f"{path}: {labels:,} images but labels of shape {shape}; give one label an "
                    "image"
                )
            size = math.prod(shape)
            # In pieces, because one read would reserve memory for whatever the header promises.
            values = bytearray()
            while len(values) <= size:
                piece = stream.read(1 << 20)
                if not piece:
                    break
                values += piece
    except struct.error as error:
        raise InputError(f"{path}: ends within its header; download it again") from error
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, reason(error)) from error
    if len(values) != size:
        held = "more" if len(values) > size else f"{len(values):,}"
        raise unreadable(path, f"the header promises {size:,} values, the file holds {held}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def check_images(images, labels, source):
    """Returns `images` as uint8 [count, 784] and `labels` [count], or raises InputError."""
    remedy = "they must be whole numbers from 0 to 255: scale them and store them as uint8"
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 or images.shape[1:] != (IMAGE_SIDE, IMAGE_SIDE):
        fault = f"images of shape {images.shape}; they must be [count, 28, 28], one value a pixel"
    elif len(images) == 0:
        fault = "holds no images; give a data set with some"
    elif images.dtype.kind not in "iu":
        fault = f"pixels of type {images.dtype}; {remedy}"
    elif images.min() < 0 or not 1 < images.max() <= 255:
        fault = f"pixels from {images.min()} to {images.max()}; {remedy}"
    elif labels.dtype.kind not in "iu" or labels.ndim != 1:
        fault = f"labels of shape {labels.shape}, type {labels.dtype}; give a whole number an image"
    elif len(labels) != len(images):
        fault = f"{len(images):,} images but {len(labels):,} labels; give one label an image"
    else:
        return images.astype(np.uint8, copy=False).reshape(len(images), IMAGE_SIZE), labels
    raise InputError(f"{source}: {fault}")


# ---- Files ---------------------------------------------------------------------------------------

PAGE = "explorer.html"
PAGE_TEMPLATE = Path(__file__).resolve().parent / "web" / PAGE
PAGE_IMAGES = 40  # test images to choose from
UNFOLDING_IMAGES = 2000  # test images whose codes the page shows as they move while it trains
UNFOLDING_CODES = 200_000  # at most, over all epochs: in a long training of fewer images


def base64_text(array, kind):
    """`array` as numbers of a little-endian NumPy type, one after the other, in base64."""
    return base64.b64encode(np.asarray(array, kind).tobytes()).decode()


def unfolding_content(history, unfolding):
    """How the plane came to be, for the page; None where nothing was kept of a training.

    Codes are whole numbers of 16 bits, in steps of 1/32767 of the largest one: finer than a pixel.
    """
    if not unfolding:
        return None
    if len(unfolding) != len(history) + 1:
        raise ValueError("unfolding must hold the codes before the training and after each epoch")
    step = max(np.abs(codes).max() for codes in unfolding) / 32767 or 1.0
    return {
        "images": len(unfolding[0]),
        "step": float(step),
        "codes": base64_text(np.rint(np.stack(unfolding) / step), "<i2"),
        "validationLosses": [
            {name: row[f"validation_{name}"] for name in Losses._fields} for row in history
        ],
    }


def explorer_page(model, data, z_mean, losses, history=(), unfolding=()):
    """The page of the plane, bytes of HTML.

    `z_mean` [count, 2], `losses`: of the test images. `history`: as `train` returns it;
    `unfolding`: the mean codes of the first test images before the training and after each epoch.
    Raises ValueError for codes that are no plane or not those of the test images.
    """
    content = {
        "name": os.path.basename(data.name),  # the page is passed on: without the rest of a path
        "reconstructionLoss": model.reconstruction_loss,
        "klWeight": model.kl_weight,
        "testLosses": losses._asdict(),
        "square": MANIFOLD_QUANTILES[-1],
        "classes": [str(label) for label in data.classes],
        "colours": class_colours(len(data.classes)),
        "labels": base64_text(np.searchsorted(data.classes, data.y_test), "<u2"),
        "codes": base64_text(np.reshape(z_mean, (len(data.y_test), 2)), "<f4"),
        "unfolding": unfolding_content(history, unfolding),
        "images": base64_text(data.x_test[:PAGE_IMAGES], "u1"),
        "weights": {
            variable.path: base64_text(variable.numpy(), "<f4")
            for variable in model.trainable_variables
        },
    }
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")  # no name ends the script
    template = PAGE_TEMPLATE.read_text("utf-8")
    return template.replace(">null<", f">{text}<", 1).encode()


def save_model(model, path):
    """Writes `model` to a .keras file: the same model, the same bytes."""
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["metadata.json"] = json.dumps({"keras_version": keras.__version__})  # without the date
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def load_model(path):
    """Returns the `VAE` in the .keras file at `path`; raises InputError where there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # Keras may give damaged layers new weights
                raise ValueError("the file is damaged")
        with warnings.catch_warnings(), keras.saving.custom_object_scope({"vae_mnist>VAE": VAE}):
            warnings.simplefilter("ignore")
            model = keras.saving.load_model(path)  # in its safe mode: it runs no code of the file
        if not isinstance(model, VAE):
            raise ValueError("it holds another model")
    except Exception as error:  # whatever zip, HDF5 and Keras make of another or a damaged file
        why = reason(error)
        if "objects could not be loaded" in why:
            why = f"it has other sizes than HIDDEN_SIZE {HIDDEN_SIZE} and LATENT_SIZE {LATENT_SIZE}"
        raise InputError(
            f"{path}: cannot be loaded ({why}); give a vae.keras that this program wrote"
        ) from error
    return model


unfinished_directories = set()  # of `write_files`; `interrupt` removes them


def write_files(directory, contents):
    """Writes `contents` to `directory` and returns the paths.

    `contents`: bytes, or functions that write to a given path, by file name. All are written beside
    their places before the first is moved there, so each file is the old one or the new one, whole.
    Raises InputError where that can't be done.
    """
    unfinished = directory / f".unfinished-{uuid.uuid4().hex}"
    unfinished_directories.add(unfinished)
    place = directory
    try:
        unfinished.mkdir(parents=True)
        for name, content in contents.items():
            place = directory / name
            if callable(content):
                content(unfinished / name)
            else:
                (unfinished / name).write_bytes(content)
        for name in contents:
            place = directory / name
            os.replace(unfinished / name, place)
    except OSError as error:
        raise InputError(
            f"{place}: cannot be written ({reason(error)}); mend that or use another directory"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished_directories.discard(unfinished)
    return [directory / name for name in contents]


def save_figure(figure, path):
    """Writes a PNG of 200 dots an inch."""
    figure.set_dpi(200)
    FigureCanvasAgg(figure).print_png(path)  # savefig would draw it twice


# ---- Command line --------------------------------------------------------------------------------

COLLAPSED_KL = 0.05  # nats; below it the code tells nothing about the image
TRAINING_FLAGS = (
    "--epochs",
    "--batch-size",
    "--learning-rate",
    "--reconstruction-loss",
    "--kl-weight",
)
TRAINING_FILES = ("history.csv", "training_curves.png", "vae.keras")


def option_type(kind, requirement, accepts):
    """Returns a `type` for argparse: a number of `kind` that `accepts` finds good."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"must be {requirement}, not '{text}'")
        return value

    return parse


def parse_arguments(argv):
    """Returns the options; for wrong ones it ends the program with one line and status 2."""
    parser = argparse.ArgumentParser(
        prog="vae_mnist.py",
        usage=argparse.SUPPRESS,  # or it would stand before every error
        description="A variational autoencoder that learns MNIST digits through two numbers.",
        allow_abbrev=False,
    )
    count = option_type(int, "a whole number of at least 1", lambda value: value >= 1)
    rate = option_type(float, "a number above 0", lambda value: 0 < value < math.inf)
    weight = option_type(float, "a number of at least 0", lambda value: 0 <= value < math.inf)
    seed = option_type(int, "a whole number from 0 to 2**32 - 1", lambda value: 0 <= value < 2**32)
    parser.add_argument(
        "--data",
        metavar="PATH",
        help=f"{DATA_FORMS} (default: MNIST from Keras' cache, downloaded once; the bundled "
        "digits where that fails)",
    )
    parser.add_argument(
        "--epochs",
        type=count,
        default=EPOCHS,
        metavar="N",
        help="passes over the training images (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=count,
        default=BATCH_SIZE,
        metavar="N",
        help="images a step (default: %(default)s)",
    )
    parser.add_argument(
        "--learning-rate",
        type=rate,
        default=LEARNING_RATE,
        metavar="X",
        help="learning rate of Adam (default: %(default)s)",
    )
    parser.add_argument(
        "--reconstruction-loss",
        choices=RECONSTRUCTION_LOSSES,
        default="squared-error",
        help="error of an image, summed over its pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--kl-weight",
        type=weight,
        default=1.0,
        metavar="X",
        help="weight of the KL divergence (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="same seed, same files (default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default="outputs",
        metavar="DIRECTORY",
        help="where the files go (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        metavar="FILE",
        help="a vae.keras to evaluate and draw instead of training one",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="open the page of the plane in a browser",
    )
    options = parser.parse_args(argv)
    if options.model is not None:
        given = {argument.partition("=")[0] for argument in argv}
        for flag in TRAINING_FLAGS:
            if flag in given:
                parser.error(f"argument {flag}: has no meaning with --model")
    return options


def xla_available():
    """Whether XLA can compile here; notes it where it can't."""
    try:
        tf.function(tf.exp, jit_compile=True)(tf.zeros([1]))
    except tf.errors.OpError as error:
        note(f"XLA is not available here ({reason(error)}); training without it, more slowly.")
        return False
    return True


def print_row(row, epochs, start):
    """Prints an epoch's row, the first with a heading; a terminal's is redrawn, with a bar."""
    epoch = row["epoch"]
    heading = "epoch    loss  reconstruction      KL  validation loss"
    line = "{epoch:>5}  {loss:6.2f}  {reconstruction:14.2f}  {kl:6.2f}  {validation_loss:15.2f}"
    line = line.format(**row)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        seconds_left = (time.monotonic() - start) / epoch * (epochs - epoch)
        line += f"  [{'#' * round(10 * epoch / epochs):.<10}] {seconds_left:.0f} s left"
        one_line_up = "\x1b[A\x1b[K" if epoch > 1 else ""
        line = one_line_up + line[:width]
        heading = heading[:width]
    if epoch == 1:
        print(heading)
    print(line, flush=True)


def train_model(options, data, rng):
    """Returns a new model, trained as `options` say, its history, and how its plane unfolded.

    The last is the mean codes of the first test images before the training and after each epoch.
    """
    keras.utils.set_random_seed(options.seed)
    model = VAE(options.reconstruction_loss, options.kl_weight)
    count = min(UNFOLDING_IMAGES, UNFOLDING_CODES // options.epochs + 1)
    watched = scale(data.x_test[:count])
    encoder = tf.function(model.encoder, autograph=False)  # as a graph it takes less time
    unfolding = []
    start = time.monotonic()

    def keep_codes():
        z_mean, _ = encoder(watched)
        unfolding.append(z_mean.numpy())

    def on_epoch(row):
        print_row(row, options.epochs, start)
        keep_codes()

    keep_codes()
    history = train(
        model,
        data.x_train,
        data.x_validation,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        rng=rng,
        xla=xla_available(),
        on_epoch=on_epoch,
    )
    return model, history, unfolding


def assess_model(model, data, rng):
    """Prints how `model` does on the test images; returns codes (mean, drawn) and the results."""
    epsilon = draw_epsilon(rng, len(data.x_test))
    test = evaluate(model, data.x_test, epsilon)
    if not math.isfinite(test.loss):
        raise InputError(f"the test loss is {test.loss}; train another model")
    z_mean, z_log_sigma_sq = encode(model, data.x_test)
    train_codes, _ = encode(model, data.x_train)
    accuracy = neighbour_accuracy(train_codes, data.y_train, z_mean, data.y_test)
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
    return z_mean, z, {"test": test._asdict(), "neighbour_accuracy": accuracy}


def check_run(options, data):
    """Raises InputError for what would end the run, or spoil its files, only after the training."""
    if options.model is not None:
        held = [name for name in TRAINING_FILES if (options.output_dir / name).exists()]
        if held:
            raise InputError(
                f"{options.output_dir}: holds a training's {', '.join(held)}; set --output-dir"
            )
    elif len(data.x_train) < options.batch_size:
        raise InputError(
            f"{data.name}: fewer training images ({len(data.x_train):,}) than a batch; choose a "
            f"--batch-size of at most {len(data.x_train)}"
        )
    write_files(options.output_dir, {})


def metrics_of_run(options, data, model, results):
    """The settings and results of a run, for metrics.json."""
    if options.model is None:
        settings = {
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
        }
    else:
        settings = {"model": options.model}
    return {
        "data": data.name,
        "train_images": len(data.x_train),
        "test_images": len(data.x_test),
        **settings,
        "reconstruction_loss": model.reconstruction_loss,
        "kl_weight": model.kl_weight,
        "seed": options.seed,
        **results,
    }


def csv_bytes(rows):
    """`rows`, dicts with the same keys, as a CSV file with a heading."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def draw_figures(model, data, z, history):
    """Returns the pictures of a run by file name; `z`: a code drawn for each test image."""
    figures = {
        "reconstructions.png": reconstructions_figure(
            scale(data.x_test[:10]), model.decode_pixels(z[:10])
        )
    }
    if LATENT_SIZE == 2:
        figures["latent_scatter.png"] = latent_scatter_figure(z, data.y_test, data.classes)
        figures["manifold.png"] = manifold_figure(model.decode_pixels(manifold_codes()))
    if history:
        figures["training_curves.png"] = training_curves_figure(history)
    return figures


def draw_page(model, data, z_mean, history, unfolding):
    """Returns the page by its file name; a note says where there can be none."""
    if LATENT_SIZE != 2:
        note(
            f"codes of {LATENT_SIZE} numbers lie in no plane: latent_scatter.png, manifold.png and "
            f"{PAGE} are not written."
        )
        return {}
    if not PAGE_TEMPLATE.is_file():
        note(f"{PAGE_TEMPLATE} is missing: no {PAGE} is made.")
        return {}
    losses_at_means = evaluate(model, data.x_test, np.zeros_like(z_mean))
    return {PAGE: explorer_page(model, data, z_mean, losses_at_means, history, unfolding)}


def run(options):
    """Does what the program does, as the options of `parse_arguments` say."""
    model = None if options.model is None else load_model(options.model)
    data = load_data(options.data)
    check_run(options, data)
    print(
        f"{data.name}: {len(data.x_train):,} training, {len(data.x_validation):,} validation and "
        f"{len(data.x_test):,} test images; losses in nats per image",
        flush=True,
    )
    training_rng, test_rng = np.random.default_rng(options.seed).spawn(2)
    history, unfolding = [], []
    if model is None:
        model, history, unfolding = train_model(options, data, training_rng)
    z_mean, z, results = assess_model(model, data, test_rng)

    metrics = metrics_of_run(options, data, model, results)
    files = {"metrics.json": f"{json.dumps(metrics, indent=2)}\n".encode()}
    if history:
        files["history.csv"] = csv_bytes(history)
        files["vae.keras"] = functools.partial(save_model, model)
    for name, figure in draw_figures(model, data, z, history).items():
        files[name] = functools.partial(save_figure, figure)
    files |= draw_page(model, data, z_mean, history, unfolding)
    for path in write_files(options.output_dir, files):
        print(f"wrote {path}", flush=True)
    if options.show and PAGE in files:
        show(options.output_dir / PAGE)


def show(page):
    """Opens the page in a browser; a note says where there is none."""
    if not webbrowser.open(page.resolve().as_uri()):
        note(f"no browser can be opened here; the page is {page}.")


def interrupt(signal_number, stack_frame):
    """Ends the program where it stands: an exception might be dropped by the code that it hits."""
    try:
        for directory in unfinished_directories:
            shutil.rmtree(directory, ignore_errors=True)
        os.write(sys.stderr.fileno(), b"vae_mnist.py: interrupted\n")
    finally:
        os._exit(130)  # even where the line cannot be written


def main(argv=None):
    """Runs the program with the arguments `argv` and returns its exit status."""
    try:
        run(parse_arguments(sys.argv[1:] if argv is None else argv))
    except (InputError, FloatingPointError) as error:
        print(f"vae_mnist.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # in a notebook, where `interrupt` would end the kernel
        print("vae_mnist.py: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if error.filename is not None:
            raise
        # Standard output cannot be written; nor can what is left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # else its reader has left, as `head` does
            why = f"standard output cannot be written ({reason(error)})"
            print(f"vae_mnist.py: error: {why}", file=sys.stderr)
        return 1
    return 0


def own_the_process():
    """Sets what a program may set for its whole process, and `%run` in a notebook may not."""
    atexit.register(gc.freeze)  # or Python would search for garbage once more as it ends
    sys.stdout = sys.stdout or io.TextIOWrapper(io.BytesIO())  # None if closed
    sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what it can't show
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


if __name__ == "__main__":
    if hasattr(sys, "ps1") or sys.flags.interactive:  # %run, python -i
        signal.signal(signal.SIGINT, signal.default_int_handler)
        gc.enable()
    else:
        own_the_process()
    tf.config.experimental.enable_op_determinism()  # some operations on a GPU are not otherwise
    sys.exit(main())
