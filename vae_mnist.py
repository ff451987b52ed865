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
import os
import signal
import sys


def interrupt(signal_number, stack_frame):
    """Ends the program in one line, from the first slow import on."""
    print("vae_mnist.py: interrupted", file=sys.stderr)
    if "main" in globals():
        sys.exit(130)  # and on the way out half-written files are removed
    os._exit(130)  # an exception would get lost in the imports


AS_PROGRAM = __name__ == "__main__" and not getattr(sys, "ps1", sys.flags.interactive)  # %run, -i
if AS_PROGRAM:
    gc.disable()  # it would search TensorFlow's objects for seconds and find no garbage
    sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what it can't show
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)

import argparse
import functools
import gzip
import hashlib
import json
import math
import multiprocessing.pool
import shutil
import struct
import tempfile
import time
import urllib.request
import webbrowser
import zipfile
import zlib
from base64 import b64encode
from collections import namedtuple
from pathlib import Path

# Read by Keras and TensorFlow as they are imported. The user's Keras may be set to another
# framework; the rest silences what notices it can.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import numpy as np
import tensorflow as tf
from matplotlib import colormaps, colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from scipy.spatial import cKDTree
from scipy.special import ndtri

keras.config.set_floatx("float32")  # whatever the user's keras.json says
IMAGE_SIDE = 28
IMAGE_SIZE = IMAGE_SIDE**2
HIDDEN_SIZE = 256
LATENT_SIZE = 2  # the scatter and the manifold are pictures of a plane
TRAINING_OPTIONS = {  # the original's settings, and what they are
    "epochs": (50, "passes over the training images"),
    "batch_size": (128, "images a step"),
    "learning_rate": (0.001, "learning rate of Adam"),
    "reconstruction_loss": ("squared-error", "error of an image, summed over its pixels"),
    "kl_weight": (1.0, "weight of the KL divergence"),
}


# ==== Part I: the chapter =========================================================================
# ---- Model ---------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="vae_mnist")
class VAE(keras.Model):
    """Two parts, each useful by itself.

    `encoder`: pixels [batch, 784] -> z_mean and z_log_sigma_sq, each [batch, 2].
    `decoder`: codes [batch, 2] -> reconstruction [batch, 784]; pixels where the reconstruction
    loss is "squared-error", their logits where it is "cross-entropy".

    The loss is part of the model and of its file. Raises ValueError where there is no such loss.
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
        self.built = True

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
        """Codes, anything that NumPy can turn into [count, 2] -> pixels [count, 784], as shown."""
        reconstruction = self.decoder(np.array(z, np.float32, ndmin=2))
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


def scale(images):
    """Images of whole numbers from 0 to 255 as pixels in [0, 1], float32; TypeError for others."""
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_integer:
        raise TypeError(f"images must hold whole numbers from 0 to 255, not {images.dtype.name}")
    return tf.cast(images, tf.float32) / 255.0


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
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits), axis=-1)


RECONSTRUCTION_LOSSES = {"squared-error": squared_error, "cross-entropy": cross_entropy}


# Means over images, in nats: loss = reconstruction + kl_weight * kl.
Losses = namedtuple("Losses", ["loss", "reconstruction", "kl"])


def loss_terms(model, images, epsilon):
    """Returns reconstruction loss and KL divergence of each of `images` [batch, 784]: [batch]."""
    x = scale(images)
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


@tf.autograph.experimental.do_not_convert  # which only the loop below needs
def train_step(model, optimizer, images, epsilon):
    """One step of Adam down the gradient of the objective; returns the batch's `Losses`."""
    with tf.GradientTape() as tape:
        losses = mean_losses(*loss_terms(model, images, epsilon), model.kl_weight)
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
        batch = tf.gather(images, order[step])
        means += tf.stack(train_step(model, optimizer, batch, epsilon[step])) / len(order)
    return means  # as it is: whatever XLA has to do after the loop slows the loop itself down


def draw_epsilon(rng, *shape):
    """Standard normal noise for codes, float32 [*shape, 2], from the NumPy generator `rng`."""
    return rng.standard_normal((*shape, LATENT_SIZE), dtype=np.float32)


def draw_epoch(rng, count, batch_size):
    """Returns a random order of `count` images, [steps, batch], and noise [steps, batch, 2]."""
    steps = count // batch_size  # the images that fill no whole batch are left out of this epoch
    order = rng.permutation(count)[: steps * batch_size].reshape(steps, batch_size)
    return tf.constant(order, tf.int32), tf.constant(draw_epsilon(rng, steps, batch_size))


def train(model, x_train, x_validation, *, epochs, batch_size, learning_rate, rng, xla=True):
    """Trains `model` on images [count, 784] as for `scale`, and yields a dict after each epoch.

    It holds the epoch's number and the `Losses` of the training images (means over the epoch,
    while the model still changes) and of the validation images. Every draw is made by the NumPy
    generator `rng`; `xla` compiles the epoch. Raises ValueError for a batch larger than the data,
    and FloatingPointError when a loss is no longer finite.
    """
    if len(x_train) < batch_size:
        raise ValueError(f"a batch of {batch_size} from {len(x_train)} training images")
    images = tf.constant(x_train)
    scale(images[:1])  # a TypeError is raised here, and not from inside the compiled epoch
    optimizer = adam(model, learning_rate)
    run_epoch = tf.function(functools.partial(train_epoch, model, optimizer), jit_compile=xla)
    validation_epsilon = draw_epsilon(rng, len(x_validation))
    for epoch in range(1, epochs + 1):
        order, epsilon = draw_epoch(rng, len(x_train), batch_size)
        losses = Losses(*run_epoch(images, order, epsilon).numpy().tolist())
        validation = evaluate(model, x_validation, validation_epsilon)
        row = {"epoch": epoch} | losses._asdict()
        row |= {f"validation_{name}": value for name, value in validation._asdict().items()}
        if not all(map(math.isfinite, row.values())):
            raise FloatingPointError(
                f"the loss is no longer finite in epoch {epoch}; try a learning rate below "
                f"{learning_rate:g}"
            )
        yield row


# ---- Evaluation ----------------------------------------------------------------------------------

EVALUATION_BATCH = 1000  # images evaluated at once: bounds the memory, not the result
NEIGHBOURS = 25  # that vote on the class of a code


def in_batches(function, *arrays):
    """Returns what `function` returns for `arrays`, called on EVALUATION_BATCH rows at a time."""
    outputs = []
    for start in range(0, max(1, len(arrays[0])), EVALUATION_BATCH):
        outputs.append(function(*(array[start : start + EVALUATION_BATCH] for array in arrays)))
    return [tf.concat(parts, axis=0) for parts in zip(*outputs, strict=True)]


@functools.lru_cache(maxsize=1)
def compile_loss_terms(model):
    """Returns `loss_terms` of this model as one graph, made once for all evaluations."""
    return tf.function(functools.partial(loss_terms, model), autograph=False, reduce_retracing=True)


def evaluate(model, images, epsilon):
    """Returns the mean `Losses`, as floats, of images [count, 784] as for `scale`, a code each.

    `epsilon` [count, 2] is the noise of the codes. Raises ValueError where there are no images.
    """
    if len(images) == 0:
        raise ValueError("there are no images to evaluate")
    reconstruction, kl = in_batches(compile_loss_terms(model), images, epsilon)
    return Losses(*map(float, mean_losses(reconstruction, kl, model.kl_weight)))


def encode(model, images):
    """Images [count, 784] as for `scale` -> z_mean and z_log_sigma_sq, each [count, 2]."""
    return in_batches(lambda batch: model.encoder(scale(batch)), images)


def neighbour_accuracy(codes, labels, test_codes, test_labels):
    """The share of `test_codes` [count, 2] whose label most of the 25 nearest `codes` have too."""
    neighbours = range(1, min(NEIGHBOURS, len(codes)) + 1)
    _, nearest = cKDTree(codes).query(test_codes, neighbours)
    classes = np.unique(labels)
    votes = [np.sum(labels[nearest] == label, axis=1) for label in classes]
    return float(np.mean(classes[np.argmax(votes, axis=0)] == test_labels))


# ---- Figures -------------------------------------------------------------------------------------

# Equal steps in probability, from 5 % to 95 %. `ndtri` is scipy.stats.norm.ppf, faster to import.
MANIFOLD_QUANTILES = ndtri(np.linspace(0.05, 0.95, 15))
GREY = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}  # pixels in [0, 1]
# Petroff's ten colours, made to be told apart by the colour-blind, for the digits 0 to 9; those
# that look alike, and so lie side by side in the plane, get the colours that differ most.
CLASS_COLOURS = (
    *("#b9ac70", "#a96b59", "#94a4a2", "#3f90da", "#832db6"),
    *("#ffa90e", "#e76300", "#717581", "#bd1f01", "#92dadd"),
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
    return tuple(map(colors.to_hex, colormaps["turbo"](np.linspace(0, 1, count))))


def latent_scatter_figure(z, labels, classes=None):
    """Draws codes `z` [count, 2], one colour for each class of `labels` [count].

    `classes`, ascending, are all that the data set has, where `labels` lack some. The dashed square
    is the part of the plane that the manifold shows.
    """
    classes = np.unique(labels) if classes is None else np.asarray(classes)
    class_indices = np.searchsorted(classes, labels)
    edge = MANIFOLD_QUANTILES[-1]
    limit = 1.05 * max(np.abs(z).max(), edge)
    figure = Figure(figsize=(6.6, 5.8), layout="compressed")
    axes = figure.subplots(subplot_kw={"aspect": "equal"})
    axes.set(xlabel="$z_1$", ylabel="$z_2$", xlim=(-limit, limit), ylim=(-limit, limit))
    points = axes.scatter(
        *np.transpose(z),
        c=class_indices,
        cmap=colors.ListedColormap(class_colours(len(classes))),
        norm=colors.BoundaryNorm(np.arange(len(classes) + 1) - 0.5, len(classes)),
        s=4,
        linewidths=0,
    )
    bar = figure.colorbar(points, ax=axes, label="class")
    bar.set_ticks(range(len(classes)), labels=classes)
    bar.ax.tick_params(which="both", length=0)
    axes.add_patch(Rectangle((-edge, -edge), 2 * edge, 2 * edge, fill=False, linestyle="--"))
    named = []
    for index in np.unique(class_indices):
        centre = np.median(z[class_indices == index], axis=0)
        if all(np.linalg.norm(centre - other) > limit / 18 for other in named):  # else overlaps
            named.append(centre)
            name = axes.text(*centre, classes[index], ha="center", va="center", fontsize=12)
            name.set(fontweight="bold", path_effects=[withStroke(linewidth=3, foreground="white")])
    return figure


def manifold_codes():
    """Returns the codes of the manifold's digits, [225, 2]: z_1 runs fastest, both ascend."""
    z_1, z_2 = np.meshgrid(MANIFOLD_QUANTILES, MANIFOLD_QUANTILES)
    return np.stack([z_1.ravel(), z_2.ravel()], axis=-1).astype(np.float32)


def manifold_figure(pixels):
    """Draws the decoded `manifold_codes`, pixels [225, 784] in [0, 1], z_1 to the right, z_2 up."""
    side = len(MANIFOLD_QUANTILES)
    tiles = np.reshape(pixels, (side, side, IMAGE_SIDE, IMAGE_SIDE))[::-1]  # highest z_2 at the top
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
    """Draws the loss and its parts over the epochs of `history`, the dicts that `train` yields."""
    figure = Figure(figsize=(9.0, 2.9), layout="compressed")
    epochs = [row["epoch"] for row in history]
    titles = ("loss", "reconstruction loss", "KL divergence")
    for axes, name, title in zip(figure.subplots(1, 3), Losses._fields, titles, strict=True):
        for split, prefix, style in (("training", "", ".-"), ("validation", "validation_", ".--")):
            values = [row[prefix + name] for row in history]
            axes.plot(epochs, values, style, markersize=3, label=split)
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
    return " ".join(str(getattr(error, "strerror", None) or error).split()).strip("<>")


# ---- Data ----------------------------------------------------------------------------------------

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
SERVER_PATIENCE = 5  # seconds to wait for the server, before and during the download
BUNDLED_DIGITS = Path(__file__).resolve().parent / "data" / "mnist_5k.npz"
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
IDX_NAMES = [f"{s}-{c}-ubyte" for s in ("train", "t10k") for c in ("images-idx3", "labels-idx1")]
DATA_FORMS = "an .npz file in Keras' layout or the directory of the four IDX files"
# Images, uint8 [count, 784] from 0 to 255, their labels [count], and the labels that occur.
Data = namedtuple("Data", "name x_train y_train x_validation y_validation x_test y_test classes")


def load_data(path=None):
    """Returns the training, validation and test images with their labels as `Data`.

    `path` is an .npz file in Keras' layout or a directory with the four IDX files of MNIST or its
    kin. Without one, MNIST is taken from Keras' cache, downloaded once; where that fails, a note
    says so and the bundled digits take its place. The first twelfth of the training images is held
    out for validation. Raises InputError for files that hold no such data.
    """
    name, path = find_mnist() if path is None else (str(path), path)
    if os.path.isdir(path):
        arrays = read_idx_directory(path)
    elif os.path.isfile(path):
        arrays = read_npz(path)
    else:
        raise InputError(f"{path}: no such file or directory; give {DATA_FORMS}")
    x, y = check_images(*arrays[:2], f"{path}, training set")
    test = check_images(*arrays[2:], f"{path}, test set")
    held_out = max(1, len(x) // 12)
    parts = (x[held_out:], y[held_out:], x[:held_out], y[:held_out], *test)
    return Data(name, *parts, classes=np.union1d(y, test[1]))


def find_mnist():
    """Returns the name and path of the full MNIST or, where it can't be had, of the bundled set."""
    keras_home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    if not os.access(keras_home, os.W_OK):  # as Keras itself does
        keras_home = Path(tempfile.gettempdir()) / ".keras"
    cached = keras_home / "datasets" / "mnist.npz"
    if cached.is_file() and hashlib.sha256(cached.read_bytes()).hexdigest() == MNIST_SHA256:
        return "MNIST", cached
    try:
        # In a thread: to look up a name, or try a server's many addresses, outlasts any time-out.
        with multiprocessing.pool.ThreadPool(1) as thread:
            answer = thread.apply_async(urllib.request.urlopen, [MNIST_URL, None, SERVER_PATIENCE])
            with answer.get(SERVER_PATIENCE) as response:
                print("downloading MNIST, 11 MB", flush=True)
                content = response.read()
        if hashlib.sha256(content).hexdigest() == MNIST_SHA256:
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
    for file in filter(os.path.isfile, files):
        paths[file.name.replace(".idx", "-idx").removesuffix(".gz")] = file
    missing = ", ".join(name for name in IDX_NAMES if name not in paths)
    if missing:
        held = sorted(file.name for file in files)[:20]
        raise InputError(f"{folder}: lacks {missing}; give all four, plain or .gz; it holds {held}")
    return [read_idx(paths[name]) for name in IDX_NAMES]


def read_idx(path):
    """Returns the uint8 array of an IDX file: 0, 0, 8, how many dimensions, these, the values."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            magic, dimensions = struct.unpack(">3sB", stream.read(4))
            if magic != b"\0\0\x08" or dimensions > 3:
                raise unreadable(path, "no IDX header for unsigned bytes")
            shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
            size = math.prod(shape)
            # In pieces, because one read would reserve memory for whatever the header promises.
            values = bytearray()
            while len(values) <= size and (piece := stream.read(1 << 20)):
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

PAGE_TEMPLATE = Path(__file__).resolve().parent / "web" / "explorer.html"
PAGE_IMAGES = 40  # test images to choose from


def explorer_page(model, data, z_mean, losses):
    """The page of the plane, bytes of HTML; `z_mean` [count, 2], `losses`: of the test images."""
    content = {
        "name": os.path.basename(data.name),  # the page is passed on: without the rest of a path
        "reconstructionLoss": model.reconstruction_loss,
        "testLosses": losses._asdict(),
        "square": MANIFOLD_QUANTILES[-1],
        "classes": [str(label) for label in data.classes],
        "colours": class_colours(len(data.classes)),
        "labels": np.searchsorted(data.classes, data.y_test).astype("<u2"),
        "codes": z_mean.astype("<f4"),
        "images": data.x_test[:PAGE_IMAGES],
        "weights": [array.astype("<f4") for array in model.get_weights()],
    }
    text = json.dumps(content, allow_nan=False, default=lambda array: b64encode(array).decode())
    text = text.replace("<", "\\u003c")  # no name ends the script
    return PAGE_TEMPLATE.read_text("utf-8").replace(">null<", f">{text}<", 1).encode()


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
        model = keras.saving.load_model(path)  # in its safe mode: it runs no code from the file
        if not isinstance(model, VAE):
            raise ValueError("it holds another model")
    except Exception as error:  # whatever zip, HDF5 and Keras make of another or a damaged file
        raise InputError(
            f"{path}: cannot be loaded ({reason(error)}); give a vae.keras that this program wrote"
        ) from error
    return model


def write_files(directory, contents):
    """Writes `contents` to `directory` and returns the paths.

    `contents`: bytes, or functions that write to a given path, by file name. All are written beside
    their places before the first is moved there, so each file is the old one or the new one, whole.
    Raises InputError where that can't be done.
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
            f"{path}: cannot be written ({reason(error)}); mend that or use another directory"
        ) from error
    return [directory / name for name in contents]


# ---- Command line --------------------------------------------------------------------------------

RANGES = {
    "epochs": ("a whole number of at least 1", lambda value: value >= 1),
    "batch_size": ("a whole number of at least 1", lambda value: value >= 1),
    "learning_rate": ("a number above 0", lambda value: 0 < value < math.inf),
    "kl_weight": ("a number of at least 0", lambda value: 0 <= value < math.inf),
    "seed": ("a whole number from 0 to 2**32 - 1", lambda value: 0 <= value < 2**32),
}
COLLAPSED_KL = 0.05  # nats; below it the code tells nothing about the image
SCHEDULE = ("epochs", "batch_size", "learning_rate")
TRAINING_FILES = ("history.csv", "training_curves.png", "vae.keras")


def parse_arguments(argv):
    """Returns the options; for wrong ones it ends the program with one line and status 2."""
    parser = argparse.ArgumentParser(
        prog="vae_mnist.py",
        usage=argparse.SUPPRESS,  # or it would stand before every error
        description=__doc__.partition("\n")[0],
        allow_abbrev=False,
    )
    add = parser.add_argument
    flags = {name: f"--{name.replace('_', '-')}" for name in [*TRAINING_OPTIONS, "seed"]}
    mnist = "MNIST from Keras' cache, downloaded once; the bundled digits where that fails"
    add("--data", metavar="PATH", help=f"{DATA_FORMS} (default: {mnist})")
    for name, (default, description) in TRAINING_OPTIONS.items():
        add(
            flags[name],
            type=type(default),
            choices=RECONSTRUCTION_LOSSES if isinstance(default, str) else None,
            metavar={int: "N", float: "X"}.get(type(default)),
            help=f"{description} (default: {default})",
        )
    add("--seed", type=int, default=0, metavar="N", help="same seed, same files (default: 0)")
    place = "where the files go (default: outputs)"
    add("--output-dir", type=Path, default="outputs", metavar="DIRECTORY", help=place)
    add("--model", metavar="FILE", help="a vae.keras to evaluate and draw instead of training one")
    add("--show", action="store_true", help="open the page of the plane in a browser")
    options = parser.parse_args(argv)
    given = {name for name in TRAINING_OPTIONS if getattr(options, name) is not None}
    if given and options.model is not None:
        parser.error(f"argument {flags[given.pop()]}: has no meaning with --model")
    for name in TRAINING_OPTIONS.keys() - given:
        setattr(options, name, TRAINING_OPTIONS[name][0])
    for name, (requirement, accepts) in RANGES.items():
        if not accepts(value := getattr(options, name)):
            parser.error(f"argument {flags[name]}: must be {requirement}, not '{value}'")
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
    line = "{epoch:>5}  {loss:6.2f}  {reconstruction:14.2f}  {kl:6.2f}  {validation_loss:15.2f}"
    line = line.format(**row)
    if epoch == 1:
        print("epoch    loss  reconstruction      KL  validation loss")
    if sys.stdout.isatty():
        left = (time.monotonic() - start) / epoch * (epochs - epoch)
        line += f"  [{'#' * round(10 * epoch / epochs):.<10}] {left:.0f} s left"
        one_line_up = "\x1b[A\x1b[K" if epoch > 1 else ""
        line = one_line_up + line[: shutil.get_terminal_size().columns - 1]
    print(line, flush=True)


def train_model(options, data, rng):
    """Returns a new model, trained as `options` say, and its history."""
    keras.utils.set_random_seed(options.seed)
    model = VAE(options.reconstruction_loss, options.kl_weight)
    settings = {name: getattr(options, name) for name in SCHEDULE}
    rows = train(model, data.x_train, data.x_validation, rng=rng, xla=xla_available(), **settings)
    history, start = [], time.monotonic()
    for row in rows:
        history.append(row)
        print_row(row, options.epochs, start)
    return model, history


def assess_model(model, data, rng):
    """Prints how `model` does on the test images; returns codes (mean, drawn) and the results."""
    epsilon = draw_epsilon(rng, len(data.x_test))
    test = evaluate(model, data.x_test, epsilon)
    if not math.isfinite(test.loss):
        raise InputError(f"the test loss is {test.loss}; train another model")
    z_mean, z_log_sigma_sq = encode(model, data.x_test)
    train_codes, _ = encode(model, data.x_train)
    accuracy = neighbour_accuracy(train_codes.numpy(), data.y_train, z_mean.numpy(), data.y_test)
    line = "test loss {loss:.4f} = {reconstruction:.4f} reconstruction + {weight:g} x {kl:.4f} KL"
    print(line.format(weight=model.kl_weight, **test._asdict()))
    print(f"accuracy {accuracy:.4f} of the vote of the {NEIGHBOURS} nearest training codes")
    if test.kl < COLLAPSED_KL:
        note(
            f"the code has collapsed (KL below {COLLAPSED_KL} nats): every image has the same "
            "reconstruction; try another --seed or a smaller --kl-weight."
        )
    z = sample_latent(z_mean, z_log_sigma_sq, epsilon).numpy()
    return z_mean.numpy(), z, {"test": test._asdict(), "neighbour_accuracy": accuracy}


def check_run(options, data):
    """Raises InputError for what would end the run, or spoil its files, only after the training."""
    if options.model is None and len(data.x_train) < options.batch_size:
        raise InputError(
            f"{data.name}: fewer training images ({len(data.x_train):,}) than a batch; choose a "
            f"--batch-size below {options.batch_size:,}"
        )
    write_files(options.output_dir, {})
    held = ", ".join(name for name in TRAINING_FILES if (options.output_dir / name).exists())
    if options.model is not None and held:
        raise InputError(f"{options.output_dir}: holds a training's {held}; set --output-dir")


def run(options):
    """Does what the program does, as the options of `parse_arguments` say."""
    model = None if options.model is None else load_model(options.model)
    data = load_data(options.data)
    check_run(options, data)
    counts = (f"{len(images):,}" for images in (data.x_train, data.x_validation, data.x_test))
    text = "{}: {} training, {} validation and {} test images; losses in nats per image"
    print(text.format(data.name, *counts), flush=True)
    history = []
    training_rng, test_rng = np.random.default_rng(options.seed).spawn(2)
    if model is None:
        model, history = train_model(options, data, training_rng)
    z_mean, z, results = assess_model(model, data, test_rng)

    reconstruction = model.decode_pixels(z[:10])
    figures = {
        "reconstructions": reconstructions_figure(scale(data.x_test[:10]), reconstruction),
        "latent_scatter": latent_scatter_figure(z, data.y_test, data.classes),
        "manifold": manifold_figure(model.decode_pixels(manifold_codes())),
    }
    settings = {name: getattr(options, name) for name in (SCHEDULE if history else ["model"])}
    record = {"data": data.name, "train_images": len(data.x_train), "test_images": len(data.x_test)}
    record |= settings | {"reconstruction_loss": model.reconstruction_loss}
    record |= {"kl_weight": model.kl_weight, "seed": options.seed} | results
    files = {"metrics.json": f"{json.dumps(record, indent=2)}\n".encode()}
    if history:
        figures["training_curves"] = training_curves_figure(history)
        rows = [history[0], *(row.values() for row in history)]
        files["history.csv"] = "".join(",".join(map(str, row)) + "\n" for row in rows).encode()
        files["vae.keras"] = functools.partial(save_model, model)
    for name, figure in figures.items():
        figure.set_dpi(200)
        files[f"{name}.png"] = FigureCanvasAgg(figure).print_png  # savefig would draw it twice
    if PAGE_TEMPLATE.is_file():
        losses = evaluate(model, data.x_test, np.zeros_like(z))  # of the means
        files["explorer.html"] = explorer_page(model, data, z_mean, losses)
    else:
        note(f"{PAGE_TEMPLATE} is missing: no explorer.html is made.")
    for path in write_files(options.output_dir, files):
        print(f"wrote {path}", flush=True)
    if options.show and path.suffix == ".html" and not webbrowser.open(path.resolve().as_uri()):
        note(f"no browser can be opened here; the page is {path}.")


def main(argv=None):
    """Runs the program with the arguments `argv` and returns its exit status."""
    try:
        run(parse_arguments(argv))
    except (InputError, FloatingPointError) as error:
        print(f"vae_mnist.py: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to flush
        return 1
    return 0


if __name__ == "__main__":
    tf.config.experimental.enable_op_determinism()  # some operations on a GPU are not otherwise
    try:
        sys.exit(main())
    finally:
        if AS_PROGRAM:
            gc.freeze()  # what is left to do takes no second search for garbage
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
