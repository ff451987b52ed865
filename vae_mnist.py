# /// script
# requires-python = ">=3.10"
# dependencies = ["tensorflow>=2.16", "numpy>=1.25", "scipy", "matplotlib>=3.9"]
# ///
"""A variational autoencoder (VAE) that learns MNIST digits through a code of two numbers.

    784 pixels -> 256 -> (2 means, 2 log-variances) -> z, 2 numbers -> 256 -> 784 pixels

The encoder gives every image a normal distribution over the plane, a code z is drawn from it, and
the decoder paints the image again from z. Training minimises, per image, the error of that
reconstruction plus the Kullback-Leibler (KL) divergence of the code's distribution from the
standard normal N(0, I): the negative evidence lower bound of Kingma & Welling, "Auto-Encoding
Variational Bayes" (2013). The divergence gathers the codes where N(0, I) has its mass. So a new
digit is made by drawing z from N(0, I) and decoding it.

This is a TensorFlow 2 port of "generating MNIST-like data with a variational autoencoder", section
10.9, example 82, figures 10-18 to 10-20 of a Chinese textbook on TensorFlow. It departs from the
original in two places, marked where they stand: [1] the reduction of the loss, [2] the initial
weights.

Stored images hold whole numbers from 0 to 255, `scale` makes them pixels in [0, 1]; losses are in
nats per image. `python vae_mnist.py --help` lists the options.
"""

import argparse
import csv
import functools
import gc
import gzip
import hashlib
import importlib.util
import json
import math
import multiprocessing.pool
import os
import sys
import tempfile
import urllib.request
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
import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib import colors, patches, patheffects
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from scipy.special import ndtri

# ---- Settings ------------------------------------------------------------------------------------
# Edit these here. A program that imports this file may set the three sizes before it makes a model;
# the others are defaults, read once: it passes its own to `VAE`, `adam` and `train`.

EPOCHS = 50
BATCH_SIZE = 128
LEARNING_RATE = 0.001
RECONSTRUCTION_LOSS = "squared-error"  # or "cross-entropy"
KL_WEIGHT = 1.0  # the beta of the beta-VAE; 1 gives the evidence lower bound
HIDDEN_SIZE = 256
LATENT_SIZE = 2  # numbers in a code; with others than two there is no plane to draw
IMAGE_SIDE = 28  # pixels; images are square

# ---- Images --------------------------------------------------------------------------------------


def check_images(images):
    """Returns stored images as bytes, uint8 [count, 784], or raises ValueError.

    `images`: whole numbers from 0 to 255 of any type, [count, 28, 28], [count, 784] or
    [count, 28, 28, 1], or a single image. If none is above 1, they may be pixels already: refused.
    """
    images = np.asarray(images)
    size = IMAGE_SIDE**2
    is_good = (
        images.dtype.kind in "uif"
        and images.size > 0
        and size in (math.prod(images.shape), math.prod(images.shape[1:]))
        and images.min() >= 0
        and 1 < images.max() <= 255
        and (images.dtype.kind in "ui" or np.array_equal(images, np.floor(images)))
    )
    if not is_good:
        found = f"{images.dtype} of shape {images.shape}"
        if images.dtype.kind in "uif" and images.size > 0:
            found += f" from {images.min():g} to {images.max():g}"
        raise ValueError(
            f"images are {found}; they must be whole numbers from 0 to 255, not all 0 or 1, with "
            f"{IMAGE_SIDE} x {IMAGE_SIDE} = {size} an image"
        )
    return images.astype(np.uint8, copy=False).reshape(-1, size)


def scale(images):
    """Bytes as `check_images` returns them, [count, 784] -> pixels in [0, 1], float32 [count, 784].

    Raises TypeError for numbers of another type.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.uint8:
        raise TypeError(f"images must be uint8, not {images.dtype.name}; see `check_images`")
    return tf.cast(images, keras.config.floatx()) / 255


# ---- Model ---------------------------------------------------------------------------------------


def build_encoder():
    """The original's encoder: pixels [batch, 784] -> z_mean and z_log_sigma_sq, each [batch, 2].

    It ends in two layers. The second gives the logarithm of sigma^2, because a layer may give any
    number, and the exponential of any number is a valid, positive sigma^2.
    """
    # [2] The original's weights start with a standard deviation of 0.001. With the full KL term
    # that often ends in posterior collapse: the decoder ignores the code. Keras' own start, Glorot
    # uniform, does not.
    x = keras.Input((IMAGE_SIDE**2,), name="x")
    h1 = keras.layers.Dense(HIDDEN_SIZE, activation="relu", name="h1")(x)
    z_mean = keras.layers.Dense(LATENT_SIZE, name="z_mean")(h1)
    z_log_sigma_sq = keras.layers.Dense(LATENT_SIZE, name="z_log_sigma_sq")(h1)
    return keras.Model(x, [z_mean, z_log_sigma_sq], name="encoder")


def build_decoder():
    """The original's decoder: codes [batch, 2] -> reconstruction [batch, 784].

    It ends without an activation: the reconstruction is the mean of a Gaussian, which may be any
    number, or with cross-entropy a logit, which may be any number too.
    """
    z = keras.Input((LATENT_SIZE,), name="z")
    h2 = keras.layers.Dense(HIDDEN_SIZE, activation="relu", name="h2")(z)
    reconstruction = keras.layers.Dense(IMAGE_SIDE**2, name="reconstruction")(h2)
    return keras.Model(z, reconstruction, name="decoder")


def sample_latent(z_mean, z_log_sigma_sq, epsilon):
    """z = mean + sigma * epsilon, all [batch, 2], with epsilon ~ N(0, I).

    The reparameterisation of Kingma & Welling (2013), section 2.4: the randomness enters from
    outside, so gradients flow through the mean and through sigma.
    """
    sigma = tf.exp(0.5 * z_log_sigma_sq)
    return z_mean + sigma * epsilon


@keras.saving.register_keras_serializable(package="vae_mnist")
class VAE(keras.Model):
    """An encoder and a decoder, ordinary Keras models, trained together by `train`, not by `fit`.

    `encoder`: pixels [batch, 784] -> z_mean and z_log_sigma_sq, each [batch, codes' size];
    `decoder`: codes -> reconstruction [batch, 784]: pixels where `reconstruction_loss` is
    "squared-error", their logits where it is "cross-entropy". Without them the original's are
    built. All four are kept in the model's file. Raises ValueError for an unknown loss and for
    parts that do not fit together.
    """

    def __init__(
        self,
        encoder=None,
        decoder=None,
        *,
        reconstruction_loss=RECONSTRUCTION_LOSS,
        kl_weight=KL_WEIGHT,
        name="vae",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if reconstruction_loss not in RECONSTRUCTION_LOSSES:
            raise ValueError(
                f"reconstruction_loss must be one of {', '.join(RECONSTRUCTION_LOSSES)}"
            )
        self.encoder = encoder or build_encoder()
        self.decoder = decoder or build_decoder()
        self.reconstruction_loss = reconstruction_loss
        self.kl_weight = kl_weight

        # One image is sent through: layers that wait for their first input get their weights.
        codes = self.encoder(tf.zeros((1, IMAGE_SIDE**2)))
        if len(codes) != 2:
            raise ValueError("the encoder must give two outputs, z_mean and z_log_sigma_sq")
        z_mean, _ = codes
        reconstruction = self.decoder(z_mean)
        if reconstruction.shape != (1, IMAGE_SIDE**2):
            raise ValueError(
                f"the decoder must give [batch, {IMAGE_SIDE**2}], not {reconstruction.shape}; "
                "keras.layers.Flatten() may end it"
            )
        last = self.decoder.layers[-1] if self.decoder.layers else None
        ends_in_sigmoid = getattr(last, "activation", None) is keras.activations.sigmoid
        if reconstruction_loss == "cross-entropy" and ends_in_sigmoid:
            raise ValueError(
                "with cross-entropy the decoder gives logits: end it without a sigmoid"
            )
        self.latent_size = z_mean.shape[-1]
        self.built = True

    def get_config(self):
        """What `from_config` needs to make this model again, without its weights."""
        return super().get_config() | {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "reconstruction_loss": self.reconstruction_loss,
            "kl_weight": float(self.kl_weight),
        }

    @classmethod
    def from_config(cls, config):
        """Makes the model of `get_config`."""
        encoder = keras.saving.deserialize_keras_object(config["encoder"])
        decoder = keras.saving.deserialize_keras_object(config["decoder"])
        return cls(**config | {"encoder": encoder, "decoder": decoder})

    def call(self, x, epsilon=0.0, training=False):
        """Encodes pixels `x` [batch, 784], draws codes with the noise `epsilon`, decodes them.

        Returns z_mean, z_log_sigma_sq, reconstruction. Without noise the code is the mean. Raises
        TypeError for whole numbers: they would be pixels that are not scaled yet.
        """
        if not x.dtype.is_floating:
            raise TypeError(f"pixels must be in [0, 1], not {x.dtype.name}; see `scale`")
        z_mean, z_log_sigma_sq = self.encoder(x, training=training)
        z = sample_latent(z_mean, z_log_sigma_sq, tf.cast(epsilon, z_mean.dtype))
        return z_mean, z_log_sigma_sq, self.decoder(z, training=training)

    def decode_pixels(self, z):
        """Codes [count, 2], or a single one -> pixels [count, 784] in [0, 1], a NumPy array.

        Of codes drawn from N(0, I), np.random.standard_normal((count, 2)), they are new digits.
        """
        reconstruction = self.decoder(np.array(z, np.float32, ndmin=2), training=False)
        if self.reconstruction_loss == "cross-entropy":
            reconstruction = tf.sigmoid(reconstruction)
        return np.clip(reconstruction, 0, 1)


# ---- Loss ----------------------------------------------------------------------------------------
# In nats, the unit of information where logarithms are natural: a nat is 1 / ln 2 = 1.44 bits.


def kl_divergence(z_mean, z_log_sigma_sq):
    """KL(N(z_mean, sigma^2) || N(0, I)) of each image, [batch, 2] twice -> [batch], in nats.

    Kingma & Welling (2013), Appendix B.
    """
    sigma_sq = tf.exp(z_log_sigma_sq)
    return -0.5 * tf.reduce_sum(1.0 + z_log_sigma_sq - tf.square(z_mean) - sigma_sq, axis=-1)


def squared_error(x, reconstruction):
    """Half the squared error summed over the pixels of each image, [batch, 784] twice -> [batch].

    In nats: the negative log-likelihood under a Gaussian of variance 1, up to a constant. It is
    smallest at the mean of all images that share a code: so reconstructions are blurred.
    """
    return 0.5 * tf.reduce_sum(tf.square(reconstruction - x), axis=-1)


def cross_entropy(x, logits):
    """Cross-entropy summed over the pixels of each image, [batch, 784] twice -> [batch], in nats.

    The negative log-likelihood under a Bernoulli with p = sigmoid(logits) for every pixel.
    """
    pixel_losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
    return tf.reduce_sum(pixel_losses, axis=-1)


RECONSTRUCTION_LOSSES = {"squared-error": squared_error, "cross-entropy": cross_entropy}


class Losses(NamedTuple):
    """Means over images, in nats: loss = reconstruction + kl_weight * kl."""

    loss: float
    reconstruction: float
    kl: float


def loss_terms(model, x, epsilon, training=False):
    """Returns reconstruction loss and KL divergence of each image: pixels [batch, 784] -> [batch].

    `epsilon` [batch, 2] is the noise of the codes.
    """
    z_mean, z_log_sigma_sq, reconstruction = model(x, epsilon=epsilon, training=training)
    reconstruction_loss = RECONSTRUCTION_LOSSES[model.reconstruction_loss]
    return reconstruction_loss(x, reconstruction), kl_divergence(z_mean, z_log_sigma_sq)


def mean_losses(reconstruction, kl, kl_weight):
    """The objective and its parts: means over the images, taken here and nowhere else."""
    # [1] The original adds the squared error of the whole batch to the KL of each image. So its KL
    # weighs 1/128 of what the text says, and the codes spread far beyond N(0, I).
    reconstruction = tf.reduce_mean(reconstruction)
    kl = tf.reduce_mean(kl)
    return Losses(reconstruction + kl_weight * kl, reconstruction, kl)


# ---- Training ------------------------------------------------------------------------------------


def adam(learning_rate=LEARNING_RATE):
    """Adam with the original's constants.

    It divides each step by the typical size of that weight's gradients; epsilon keeps the quotient
    small where they are almost zero, as for pixels that are nearly always black.
    """
    # 1e-8 is TensorFlow 1's default; Keras' own is 1e-7.
    return keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8)


def generator(rng=None):
    """A NumPy generator: `rng` itself or, of a seed, one of its own.

    Without one, its seed is drawn from the generator that keras.utils.set_random_seed sets.
    """
    return np.random.default_rng(np.random.randint(2**31) if rng is None else rng)


def train(
    model,
    x_train,
    x_validation,
    *,
    epochs=EPOCHS,
    batch_size=BATCH_SIZE,
    optimizer=None,
    rng=None,
    xla=True,
    on_epoch=None,
):
    """Trains `model` on images (see `check_images`); returns the history, a dict for each epoch.

    A dict holds the epoch's number and the `Losses` of the training images (means over the epoch,
    while the model still changes) and of the validation images. `on_epoch`, where given, is called
    with it as soon as the epoch ends, and stops the training by returning True (nothing else that
    is true). It may set model.kl_weight, optimizer.learning_rate and weights for the next epoch;
    whatever else changes in model or optimizer acts from the next call of `train`, because the
    epoch is compiled once. `xla=False` runs what XLA can't compile, such as tf.print and Keras'
    layers that move images.

    `optimizer`: one of Keras', by default `adam()`; `rng`: see `generator`. Raises ValueError for
    images that `check_images` refuses and for a batch of none or of more than there are, and
    FloatingPointError when a loss is no longer finite.
    """
    x_train = check_images(x_train)
    x_validation = check_images(x_validation)
    if not 1 <= batch_size <= len(x_train):
        raise ValueError(f"a batch of {batch_size} from {len(x_train)} training images")
    optimizer = adam() if optimizer is None else keras.optimizers.get(optimizer)
    optimizer.build(model.trainable_variables)
    rng = generator(rng)
    validation_epsilon = rng.standard_normal((len(x_validation), model.latent_size), np.float32)
    # The rest that fills no batch is left out, a different rest each epoch: XLA needs equal shapes.
    steps = len(x_train) // batch_size
    # Made once, and compiled, which needs no copies; of a bare function, traced in every training,
    # TensorFlow would warn.
    pixels = tf.function(functools.partial(scale), jit_compile=xla)(x_train)
    validation_pixels = scale(x_validation)

    @tf.function(jit_compile=xla)
    def run_epoch(pixels, order, epsilon, kl_weight):
        means = tf.zeros(len(Losses._fields), pixels.dtype)
        for step in tf.range(steps):
            x = tf.gather(pixels, order[step])
            with tf.GradientTape() as tape:
                reconstruction, kl = loss_terms(model, x, epsilon[step], training=True)
                losses = mean_losses(reconstruction, kl, kl_weight)
                # What regularizers add is minimised, not reported; `scale_loss` changes something
                # only for an optimizer that scales its gradients back.
                objective = optimizer.scale_loss(losses.loss + sum(model.losses))
            gradients = tape.gradient(objective, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            means += tf.stack(losses) / steps
        return means

    @tf.function
    def validate(kl_weight):
        reconstruction, kl = loss_terms(model, validation_pixels, validation_epsilon)
        return mean_losses(reconstruction, kl, kl_weight)

    history = []
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(x_train))[: steps * batch_size].reshape(steps, batch_size)
        epsilon = rng.standard_normal((steps, batch_size, model.latent_size), np.float32)
        kl_weight = tf.cast(model.kl_weight, pixels.dtype)  # a number would be compiled in
        means = run_epoch(pixels, tf.constant(order, tf.int32), tf.constant(epsilon), kl_weight)
        losses = Losses(*means.numpy().tolist())
        validation = Losses(*(float(mean) for mean in validate(kl_weight)))
        row = {"epoch": epoch} | losses._asdict()
        row |= {f"validation_{name}": value for name, value in validation._asdict().items()}
        if not all(math.isfinite(value) for value in row.values()):
            raise FloatingPointError(
                f"the loss is no longer finite in epoch {epoch}; try a smaller learning rate"
            )
        history.append(row)
        stop = on_epoch(row) if on_epoch else False
        if isinstance(stop, bool | np.bool_) and stop:  # tf.summary's functions return tensors
            break
    optimizer.finalize_variable_values(model.trainable_variables)  # if it averages (use_ema)
    return history


def print_row(row):
    """Prints a row of the history, the first with a heading; made for `on_epoch`."""
    if row["epoch"] == 1:
        print("epoch    loss  reconstruction      KL  validation loss")
    line = "{epoch:>5}  {loss:6.2f}  {reconstruction:14.2f}  {kl:6.2f}  {validation_loss:15.2f}"
    print(line.format(**row), flush=True)


# ---- Evaluation ----------------------------------------------------------------------------------

NEIGHBOURS = 25  # that vote on the class of a code


def batches(count, size=1000):
    """Slices of `size` that make up `count` images: they bound the memory, not the result."""
    return [slice(start, start + size) for start in range(0, count, size)]


def image_losses(model, images, epsilon=None):
    """Returns reconstruction loss and KL divergence of each image, NumPy arrays [count], in nats.

    `images`: see `check_images`. `epsilon` [count, 2]: the noise of their codes, by default drawn;
    0 stands for the mean codes, whose losses are lower and no bound of the evidence.
    """
    images = check_images(images)
    shape = (len(images), model.latent_size)
    if epsilon is None:
        epsilon = generator().standard_normal(shape, np.float32)
    epsilon = np.broadcast_to(epsilon, shape)
    terms = [
        loss_terms(model, scale(images[batch]), epsilon[batch]) for batch in batches(len(images))
    ]
    reconstruction, kl = zip(*terms, strict=True)
    return np.concatenate(reconstruction), np.concatenate(kl)


def evaluate(model, images, epsilon=None):
    """Returns the mean `Losses` of images, as floats; for the arguments see `image_losses`."""
    losses = mean_losses(*image_losses(model, images, epsilon), model.kl_weight)
    return Losses(*(float(mean) for mean in losses))


def encode(model, images):
    """Images (see `check_images`) -> z_mean and z_log_sigma_sq, each a NumPy array [count, 2]."""
    images = check_images(images)
    codes = [model.encoder(scale(images[batch]), training=False) for batch in batches(len(images))]
    z_mean, z_log_sigma_sq = zip(*codes, strict=True)
    return np.concatenate(z_mean), np.concatenate(z_log_sigma_sq)


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


def show_pixels(axes, pixels, **options):
    """Shows pixels in [0, 1], [rows, columns], as grey levels; raises ValueError for others."""
    if not (np.min(pixels) >= 0 and np.max(pixels) <= 1):
        raise ValueError("pixels must be in [0, 1]: see `scale` and `VAE.decode_pixels`")
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1}
    axes.imshow(pixels, origin="upper", interpolation="nearest", **grey, **options)


def reconstructions_figure(x, reconstruction):
    """Draws images `x` [count, 784] over their reconstructions [count, 784], pixels in [0, 1].

    Figure 10-18 of the original.
    """
    figure = Figure(figsize=(0.8 * len(x) + 0.3, 1.7), layout="compressed")
    rows = figure.subplots(2, len(x), squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    rows[0, 0].set_ylabel("original", fontsize=7)
    rows[1, 0].set_ylabel("reconstruction", fontsize=7)
    for axes, image in zip(rows.flat, [*x, *reconstruction], strict=True):
        show_pixels(axes, np.reshape(image, (IMAGE_SIDE, IMAGE_SIDE)))
    return figure


def class_colours(count):
    """Returns a colour, "#rrggbb", for each of `count` classes."""
    if count <= len(CLASS_COLOURS):
        return CLASS_COLOURS[:count]
    spread = matplotlib.colormaps["turbo"](np.linspace(0, 1, count))
    return tuple(colors.to_hex(colour) for colour in spread)


def latent_scatter_figure(z, labels, *, classes=None):
    """Draws codes `z` [count, 2], one colour for each class of `labels` [count].

    Figure 10-19 of the original. `classes` are all that the data set has, where `labels` lack some.
    The dashed square is the part of the plane that the manifold shows. Raises ValueError for labels
    that are none of `classes`.
    """
    z = np.asarray(z)
    z_1, z_2 = z.T
    classes = np.unique(labels if classes is None else classes)
    if not np.isin(labels, classes).all():
        raise ValueError("classes must hold every label")
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
    """Draws the decoded `manifold_codes`, pixels [225, 784] in [0, 1], z_1 to the right, z_2 up.

    Figure 10-20 of the original.
    """
    side = len(MANIFOLD_QUANTILES)
    tiles = np.reshape(pixels, (side, side, IMAGE_SIDE, IMAGE_SIDE))
    tiles = tiles[::-1]  # highest z_2 at the top
    mosaic = tiles.transpose(0, 2, 1, 3).reshape(side * IMAGE_SIDE, side * IMAGE_SIDE)
    figure = Figure(figsize=(6.6, 6.6), layout="compressed")
    axes = figure.subplots(subplot_kw={"xlabel": "$z_1$", "ylabel": "$z_2$"})
    show_pixels(axes, mosaic, extent=(0, side, 0, side))
    centres = np.arange(side) + 0.5
    quantiles = [f"{value:.2f}" for value in MANIFOLD_QUANTILES.round(2) + 0.0]  # no "-0.00"
    axes.set_xticks(centres, quantiles, fontsize=8)
    axes.set_yticks(centres, quantiles, fontsize=8)
    return figure


def training_curves_figure(history):
    """Draws the loss and its parts over the epochs of `history`, as `train` returns it."""
    figure = Figure(figsize=(9.0, 2.9), layout="compressed")
    epochs = [int(row["epoch"]) for row in history]
    titles = ("loss", "reconstruction loss", "KL divergence")
    for axes, name, title in zip(figure.subplots(1, 3), Losses._fields, titles, strict=True):
        training = [float(row[name]) for row in history]
        validation = [float(row[f"validation_{name}"]) for row in history]
        axes.plot(epochs, training, ".-", markersize=3, label="training")
        axes.plot(epochs, validation, ".--", markersize=3, label="validation")
        axes.set(title=title, xlabel="epoch", ylabel="nats per image")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    return figure


# ---- Messages and files --------------------------------------------------------------------------


class InputError(Exception):
    """A fault that the user can mend; its text is one line that says how."""


def note(text):
    """Tells the user, beside the results, what differs from the ordinary run."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def reason(error):
    """What went wrong, for the user, in one line."""
    text = str(getattr(error, "strerror", None) or error)
    return " ".join(text.split()).strip("<>")


def write_files(directory, contents):
    """Writes files to `directory` and prints their paths.

    `contents`: bytes, or functions that write to a given path, by file name. All are written into a
    folder beside their places before the first is moved there, so each file is the old one or the
    new one, whole. Raises InputError where that can't be done.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=directory) as unfinished:
            for name, content in contents.items():
                path = Path(unfinished, name)
                if callable(content):
                    content(path)
                else:
                    path.write_bytes(content)
            for name in contents:
                os.replace(Path(unfinished, name), directory / name)
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be written ({reason(error)}); mend that or use another directory"
        ) from error
    for name in contents:
        print(f"wrote {directory / name}", flush=True)


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

    `path` is an .npz file in Keras' layout or a directory with the four IDX files of MNIST or of a
    set like it. Without one, MNIST is taken from Keras' cache, downloaded once; where that fails, a
    note says so and the bundled digits take its place. The first twelfth of the training images is
    held out for validation, so they must not be in the order of their classes. Raises InputError
    for files that hold no such data.
    """
    if path is None:
        name, path = find_mnist()
    else:
        name = str(path)
    if os.path.isdir(path):
        x, y, x_test, y_test = read_idx_directory(Path(path))
    elif os.path.isfile(path):
        x, y, x_test, y_test = read_npz(path)
    else:
        raise InputError(f"{path}: no such file or directory; give {DATA_FORMS}")
    x, y = check_set(x, y, f"{path}, training set")
    x_test, y_test = check_set(x_test, y_test, f"{path}, test set")
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


def check_set(images, labels, source):
    """Returns images uint8 [count, 784] and labels [count], or raises InputError."""
    try:
        images = check_images(images)
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error
    labels = np.asarray(labels)
    if labels.dtype.kind not in "ui" or labels.shape not in [(len(images),), (len(images), 1)]:
        raise InputError(
            f"{source}: {len(images):,} images but labels of shape {labels.shape}, type "
            f"{labels.dtype}; give one label an image, a whole number"
        )
    return images, labels.ravel()


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


def is_mnist(content):
    """Whether these bytes are the mnist.npz that everyone uses."""
    return hashlib.sha256(content).hexdigest() == MNIST_SHA256


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
        if not zipfile.is_zipfile(path):  # NumPy would advise to unpickle it
            raise ValueError("no complete .npz file, which is a zip file")
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            arrays = [archive[key] for key in NPZ_KEYS if key in names]
    except Exception as error:  # whatever zip, zlib and NumPy make of a damaged file
        raise unreadable(path, reason(error)) from error
    if len(arrays) < len(NPZ_KEYS):
        raise InputError(f"{path}: holds {', '.join(names)}; it must hold {', '.join(NPZ_KEYS)}")
    return arrays


def read_idx_directory(directory):
    """Returns x_train, y_train, x_test, y_test from the four IDX files in `directory`.

    Plain or compressed ones; Kaggle names them with a dot, torchvision puts them into NAME/raw.
    """
    folders = [directory, *directory.glob("raw"), *directory.glob("*/raw")]
    sets = sorted(folder for folder in folders if any(folder.glob("t*?idx?-ubyte*")))
    if len(sets) > 1:
        raise InputError(
            f"{directory}: holds several data sets; give one of {', '.join(map(str, sets))}"
        )
    folder = sets[0] if sets else directory
    paths, missing = [], []
    for name in IDX_NAMES:
        pattern = name.replace("-idx", "?idx") + "*"
        files = sorted(path for path in folder.glob(pattern) if path.is_file())
        paths += files[:1]  # the plain file before the compressed
        missing += [name] if not files else []
    if missing:
        held = sorted(path.name for path in folder.iterdir())[:20]
        raise InputError(
            f"{folder}: lacks {', '.join(missing)}; give all four, plain or .gz; it holds {held}"
        )
    return [read_idx(path) for path in paths]


def read_idx(path):
    """Returns the uint8 array of an IDX file: 0, 0, 8, how many dimensions, these, the values."""
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            content = file.read()
        if len(content) < 4 or content[:3] != b"\0\0\x08":
            raise ValueError("no IDX header for unsigned bytes")
        dimensions = content[3]
        shape = np.frombuffer(content, ">u4", dimensions, offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise unreadable(path, reason(error)) from error


# ---- Program -------------------------------------------------------------------------------------

COLLAPSED_KL = 0.05  # nats; below it the code tells nothing about the image
PLANE_FILES = ("explorer.html", "latent_scatter.png", "manifold.png")
UNFOLDING_IMAGES = 2000  # test images whose codes the page shows as they move while it trains


def parse_arguments(argv=None):
    """Returns the options; for wrong ones it ends the program with one line and status 2."""
    parser = argparse.ArgumentParser(
        prog="vae_mnist.py",
        usage=argparse.SUPPRESS,  # or it would stand before every error
        description="A variational autoencoder that learns MNIST digits through two numbers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", metavar="PATH", help=f"{DATA_FORMS}; None stands for MNIST, downloaded once")
    add("--epochs", type=int, default=EPOCHS, help="passes over the training images")
    add("--batch-size", type=int, default=BATCH_SIZE, help="images a step")
    add("--learning-rate", type=float, default=LEARNING_RATE, help="learning rate of Adam")
    add(
        "--reconstruction-loss",
        choices=RECONSTRUCTION_LOSSES,
        default=RECONSTRUCTION_LOSS,
        help="error of an image, summed over its pixels",
    )
    add("--kl-weight", type=float, default=KL_WEIGHT, help="weight of the KL divergence")
    add("--seed", type=int, default=0, help="same seed, same numbers and pictures")
    add("--output-dir", type=Path, default=Path("outputs"), help="where the files go")
    options = parser.parse_args(argv)
    for option, is_good, requirement in (
        ("--epochs", options.epochs >= 1, "at least 1"),
        ("--batch-size", options.batch_size >= 1, "at least 1"),
        ("--learning-rate", 0 < options.learning_rate < math.inf, "a number above 0"),
        ("--kl-weight", 0 <= options.kl_weight < math.inf, "a number of at least 0"),
        ("--seed", 0 <= options.seed < 2**32, "from 0 to 2**32 - 1"),
    ):
        if not is_good:
            parser.error(f"argument {option}: must be {requirement}")
    return options


def xla_available():
    """Whether XLA can compile here; notes it where it can't."""
    try:
        tf.function(tf.exp, jit_compile=True)(tf.zeros([1]))
    except tf.errors.OpError as error:
        note(f"XLA is not available here ({reason(error)}); training without it, more slowly.")
        return False
    return True


def train_model(options, data, rng):
    """Returns a new model, trained as `options` say, its history, and how its plane unfolded.

    The last is a list: before the training and after each epoch, the mean codes of the first test
    images and what the decoder makes of the first ten of these, pixels in [0, 1].
    """
    keras.utils.set_random_seed(options.seed)
    model = VAE(reconstruction_loss=options.reconstruction_loss, kl_weight=options.kl_weight)
    model.get_config()  # a layer that Keras can't save is told now, not after the training
    x = scale(data.x_test[:UNFOLDING_IMAGES])
    encoder = tf.function(model.encoder)  # as a graph it takes less time
    unfolding = []

    def keep_plane():
        z_mean, _ = encoder(x)
        unfolding.append((z_mean.numpy(), model.decode_pixels(z_mean[:10])))

    def on_epoch(row):
        print_row(row)
        keep_plane()

    keep_plane()
    history = train(
        model,
        data.x_train,
        data.x_validation,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=adam(options.learning_rate),
        rng=rng,
        xla=xla_available(),
        on_epoch=on_epoch,
    )
    return model, history, unfolding


def assess_model(model, data, rng):
    """Prints how `model` does on the test images; returns a code drawn for each and the results."""
    epsilon = rng.standard_normal((len(data.x_test), model.latent_size), np.float32)
    test = evaluate(model, data.x_test, epsilon)
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
    return z, {"test": test._asdict(), "neighbour_accuracy": accuracy}


def write_history(history, path):
    """Writes the rows of `history` to a CSV file."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        columns = dict.fromkeys(column for row in history for column in row)
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def draw_figures(model, data, z, history):
    """Returns the figures by file name; `z`: a code drawn for each test image."""
    x, reconstruction = scale(data.x_test[:10]), model.decode_pixels(z[:10])
    figures = {
        "reconstructions.png": reconstructions_figure(x, reconstruction),
        "training_curves.png": training_curves_figure(history),
    }
    if model.latent_size == 2:
        scatter = latent_scatter_figure(z, data.y_test, classes=data.classes)
        figures["latent_scatter.png"] = scatter
        figures["manifold.png"] = manifold_figure(model.decode_pixels(manifold_codes()))
    return figures


def explorer_page(model, data, history=(), unfolding=()):
    """Returns the page to explore the plane, bytes of HTML, made by the folder `explorer`.

    `history`: as `train` returns it; `unfolding`: as `train_model` does. Raises explorer.PageError
    for a model that the page can't run.
    """
    import explorer

    z_mean, _ = encode(model, data.x_test)
    losses = evaluate(model, data.x_test, epsilon=0)
    return explorer.make_page(
        model.encoder,
        model.decoder,
        name=os.path.basename(data.name),  # the page is passed on: without the rest of a path
        images=data.x_test,
        labels=data.y_test,
        classes=data.classes,
        colours=class_colours(len(data.classes)),
        z_mean=z_mean,
        pixels=model.decode_pixels(z_mean[: explorer.IMAGES]),
        image_losses=image_losses(model, data.x_test[: explorer.IMAGES], epsilon=0),
        losses=losses._asdict(),
        reconstruction_loss=model.reconstruction_loss,
        kl_weight=float(model.kl_weight),
        edge=MANIFOLD_QUANTILES[-1],
        collapsed=losses.kl < COLLAPSED_KL,
        history=history,
        unfolding=unfolding,
    )


def draw_page(model, data, history, unfolding):
    """Returns the `explorer_page` by its file name, or nothing, and a note says why."""
    if model.latent_size != 2:
        note(
            f"codes of {model.latent_size} numbers lie in no plane: {', '.join(PLANE_FILES)} are "
            "not written."
        )
        return {}
    if importlib.util.find_spec("explorer") is None:
        note("there is no folder explorer beside the script: explorer.html is not written.")
        return {}
    import explorer

    try:
        return {"explorer.html": explorer_page(model, data, history, unfolding)}
    except explorer.PageError as error:
        note(f"{error}: explorer.html is not written.")
        return {}


def run(options):
    """Trains, evaluates and draws, as the options of `parse_arguments` say."""
    data = load_data(options.data)
    if len(data.x_train) < options.batch_size:
        raise InputError(
            f"{data.name}: fewer training images ({len(data.x_train):,}) than a batch; choose a "
            f"--batch-size of at most {len(data.x_train)}"
        )
    write_files(options.output_dir, {})  # whether that can be done is seen before the training
    print(
        f"{data.name}: {len(data.x_train):,} training, {len(data.x_validation):,} validation and "
        f"{len(data.x_test):,} test images; losses in nats per image",
        flush=True,
    )
    training_rng, test_rng = np.random.default_rng(options.seed).spawn(2)
    model, history, unfolding = train_model(options, data, training_rng)
    z, results = assess_model(model, data, test_rng)

    metrics = {
        "data": data.name,
        "train_images": len(data.x_train),
        "test_images": len(data.x_test),
        "epochs": len(history),
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "reconstruction_loss": model.reconstruction_loss,
        "kl_weight": float(model.kl_weight),
        "seed": options.seed,
        **results,
    }
    numbers = {
        "metrics.json": f"{json.dumps(metrics, indent=2)}\n".encode(),
        "history.csv": functools.partial(write_history, history),
    }
    write_files(options.output_dir, {"vae.keras": model.save})  # first what took the time
    write_files(options.output_dir, numbers)

    with matplotlib.rc_context(matplotlib.rcParamsDefault):  # whatever the user's matplotlibrc says
        figures = draw_figures(model, data, z, history)
        pictures = {
            name: functools.partial(figure.savefig, dpi=200) for name, figure in figures.items()
        }
        write_files(options.output_dir, pictures)
    page = draw_page(model, data, history, unfolding)
    write_files(options.output_dir, page)

    missing = [name for name in PLANE_FILES if name not in pictures | page]
    stale = [name for name in missing if (options.output_dir / name).exists()]
    if stale:
        note(f"{', '.join(stale)} in {options.output_dir}: of an earlier run, not of this model.")


def main(argv=None):
    """Runs the program with the arguments `argv` and returns its exit status."""
    try:
        run(parse_arguments(argv))
    except (InputError, FloatingPointError) as error:
        print(f"vae_mnist.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vae_mnist.py: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    gc.freeze()  # the search for garbage need not go through all that the imports have made
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()  # some operations there are not otherwise
    sys.exit(main())
