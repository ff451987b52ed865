# /// script
# requires-python = ">=3.10,<3.14"
# dependencies = ["tensorflow>=2.16", "keras>=3.9", "numpy>=1.25", "scipy", "matplotlib>=3.9"]
# ///
"""A variational autoencoder (VAE) that learns MNIST digits through a two-dimensional latent space.

    784 pixels -> 256 -> z_mean (2), z_log_sigma_sq (2) -> z (2) -> 256 -> 784 pixels

The encoder maps an image to a normal distribution over the latent space, the posterior. A latent
code z is sampled from it, and the decoder reconstructs the image from z. Training minimises the
negative evidence lower bound (ELBO) of Kingma & Welling, "Auto-Encoding Variational Bayes" (2013):
for each image, a reconstruction loss plus the Kullback-Leibler (KL) divergence of the posterior
from the prior N(0, I). So decoding samples z ~ N(0, I) generates new digits.

This is a TensorFlow 2 port of example 82 in section 10.9 of 李金洪 (Li Jinhong),
《深度学习之TensorFlow：入门、原理与进阶实战》 (2018). It differs from the book's listing on purpose
in six places. docs/book.md explains them; their numbers stand where the code differs:

    [1] the KL term has its full weight [4] pixels are clipped to [0, 1] for display
    [2] the initial weights are larger  [5] the incomplete last batch is dropped
    [3] the manifold has z_2 upward     [6] losses are means per image, printed every epoch
"""

import argparse
import contextlib
import gc
import gzip
import json
import os
import sys
import tempfile
import types
import zipfile
from collections import namedtuple
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"  # read, as all these are, by the imports below
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no log but fatal errors
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # or it takes the whole GPU's memory
# On a GPU too, the same seed gives the same numbers. Flags that the user has set come last and win.
os.environ["XLA_FLAGS"] = f"--xla_gpu_deterministic_ops=true {os.environ.get('XLA_FLAGS', '')}"

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib import colors, patches, patheffects
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from scipy.special import ndtri

try:
    import explorer  # the folder beside this file, which makes the page
except ImportError:
    explorer = None  # all the rest works without
if keras.backend.backend() != "tensorflow":
    raise ImportError(f"Keras runs on {keras.backend.backend()}; import vae_mnist before keras")
keras.config.set_floatx("float32")  # whatever the user's keras.json says
tf.config.experimental.enable_tensor_float_32_execution(False)  # or a GPU keeps three digits
tf.get_logger().addFilter(lambda log: "retracing" not in str(log.msg))  # for each new model

# ---- Settings ------------------------------------------------------------------------------------
# Edit them here. A program that imports this file may set them before it makes a model, except for
# EPOCHS, BATCH_SIZE, LEARNING_RATE and KL_WEIGHT: these are default arguments, so pass others.
EPOCHS = 50
BATCH_SIZE = 128
LEARNING_RATE = 0.001
RECONSTRUCTION_LOSS = "squared-error"  # or "cross-entropy"
KL_WEIGHT = 1.0  # the beta of the beta-VAE; 1 gives the negative ELBO
HIDDEN_SIZE = 256
LATENT_SIZE = 2  # dimensions of the latent space; the scatter, the manifold and the page need two
IMAGE_SIDE = 28  # pixels; images are square
EVALUATION_BATCH_SIZE = 1000  # images that are evaluated or encoded at once; it bounds the memory

NEIGHBOURS = 25  # k of the k-nearest-neighbour (k-NN) accuracy
COLLAPSED_KL = 0.05  # nats per image; a KL divergence below it is reported as posterior collapse
NAMED_CLASSES = 30  # the scatter names up to so many classes beside their dots
# The manifold's axes, as in figure 4 of Kingma & Welling (2013): `ndtri` is scipy.stats.norm.ppf.
MANIFOLD_QUANTILES = ndtri(np.linspace(0.05, 0.95, 15))
# No two look alike as small dots. Digits that look alike have the colours that differ most.
CLASS_COLOURS = ("#1a8cff", "#ff947d", "#eaaafb", "#ec0082", "#c51800")  # 0 to 4
CLASS_COLOURS += ("#bedf00", "#b88500", "#732aff", "#007942", "#24d8be")  # 5 to 9


# ---- Model ---------------------------------------------------------------------------------------
def build_encoder():
    """Return the original's encoder: pixels [batch, 784] -> z_mean, z_log_sigma_sq [batch, 2].

    The second output is the logarithm of the variance: a layer can return any number, and its
    exponential is a valid variance. With relu or softplus, sigma could never fall below 1.
    """
    # [2] The listing's initial weights have a standard deviation of 0.001. With the full KL term
    # they end in posterior collapse on some seeds. Keras' default, Glorot uniform, does not.
    x = keras.Input((IMAGE_SIDE**2,), name="x")
    h1 = keras.layers.Dense(HIDDEN_SIZE, activation="relu", name="h1")(x)
    z_mean = keras.layers.Dense(LATENT_SIZE, name="z_mean")(h1)
    z_log_sigma_sq = keras.layers.Dense(LATENT_SIZE, name="z_log_sigma_sq")(h1)
    return keras.Model(x, [z_mean, z_log_sigma_sq], name="encoder")


def build_decoder():
    """Return the original's decoder: latent codes [batch, 2] -> reconstruction [batch, 784]."""
    z = keras.Input((LATENT_SIZE,), name="z")
    h2 = keras.layers.Dense(HIDDEN_SIZE, activation="relu", name="h2")(z)
    # With the squared error the outputs are means of Gaussians, with the cross-entropy logits.
    reconstruction = keras.layers.Dense(IMAGE_SIDE**2, name="reconstruction")(h2)
    return keras.Model(z, reconstruction, name="decoder")


def sample_latent(z_mean, z_log_sigma_sq, epsilon):
    """Return z = z_mean + sigma * epsilon, all [batch, 2], where epsilon ~ N(0, I).

    The reparameterisation trick of Kingma & Welling (2013), section 2.4: the randomness is an
    input, so that gradients flow through z_mean and sigma.
    """
    return z_mean + tf.exp(0.5 * z_log_sigma_sq) * epsilon


# ---- Loss, optimizer, random numbers -------------------------------------------------------------
# Losses are in nats, the unit of information for natural logarithms: a nat is 1 / ln 2 = 1.44 bits.
def kl_divergence(z_mean, z_log_sigma_sq):
    """Return KL(N(z_mean, sigma^2) || N(0, I)) of each image, [batch, 2] twice -> [batch], in nats.

    Kingma & Welling (2013), Appendix B: the first term of their equation (10), with the other sign.
    """
    sigma_sq = tf.exp(z_log_sigma_sq)
    return -0.5 * tf.reduce_sum(1.0 + z_log_sigma_sq - tf.square(z_mean) - sigma_sq, axis=-1)


def squared_error(x, reconstruction):
    """Return half the squared error summed over each image, [batch, 784] twice -> [batch], in nats.

    Up to a constant, the negative log-likelihood of a Gaussian with variance 1. It is least at the
    mean of all images that share a latent code: a blurred image.
    """
    return 0.5 * tf.reduce_sum(tf.square(reconstruction - x), axis=-1)


def cross_entropy(x, logits):
    """Return the cross-entropy summed over each image, [batch, 784] twice -> [batch], in nats.

    The negative log-likelihood of pixels that are white with the probability sigmoid(logits); of
    grey pixels, that are drawn white with probability x, its mean.
    """
    pixel_losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
    return tf.reduce_sum(pixel_losses, axis=-1)


# AutoGraph would convert a function by reading this file again, which may have been edited by then.
unconverted = tf.autograph.experimental.do_not_convert
RECONSTRUCTION_LOSSES = {"squared-error": squared_error, "cross-entropy": cross_entropy}


def adam(learning_rate=LEARNING_RATE):
    """Return Adam with the original's constants: 1e-8 is TensorFlow 1's epsilon, Keras' is 1e-7."""
    return keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8)


def given_or_drawn(seed):
    """Return the seed or, for None, one of the generator that keras.utils.set_random_seed seeds."""
    return np.random.randint(2**31) if seed is None else seed


def epoch_draws(seed, count, batch_size, latent_size, epoch):
    """Return what an epoch draws, a function of the seed and of its number.

    The order of the images [steps, batch], and noise, a sample of N(0, I) [steps, batch, latent].
    """
    steps = count // batch_size  # [5] the incomplete last batch is dropped
    order = tf.random.experimental.stateless_shuffle(tf.range(count), [seed, 2 * epoch])
    epsilon = tf.random.stateless_normal((steps, batch_size, latent_size), [seed, 2 * epoch + 1])
    return tf.reshape(order[: steps * batch_size], (steps, batch_size)), epsilon


# ---- The variational autoencoder -----------------------------------------------------------------
# What Keras sets in a model while it trains or evaluates it, and reads in no step.
SET_BY_KERAS = {"train_function", "test_function", "predict_function", "_eval_epoch_iterator"}
SET_BY_KERAS |= {"history", "stop_training", "stop_evaluating", "stop_predicting"}


@keras.saving.register_keras_serializable(package="vae_mnist")
class VAE(keras.Model):
    """A variational autoencoder, trained by Keras' `fit`, to which an epoch is a single step.

    `encoder`: a Keras model, pixels [batch, 784] -> z_mean, z_log_sigma_sq [batch, latent size].
    `decoder`: a Keras model, latent codes [batch, latent size] -> reconstruction [batch, 784].
    `reconstruction_loss`: "squared-error", or "cross-entropy" of a decoder that returns logits.
    `kl_weight`: weight of the KL divergence, a number or a variable. All are saved with the model.
    `compile(optimizer=..., jit_compile=...)` replaces `adam()` and XLA. Raises InputError.
    """

    def __init__(
        self, encoder=None, decoder=None, *, reconstruction_loss=None, kl_weight=KL_WEIGHT, **kwargs
    ):
        super().__init__(**kwargs)
        self.encoder = build_encoder() if encoder is None else encoder
        self.decoder = build_decoder() if decoder is None else decoder
        self.reconstruction_loss = reconstruction_loss or RECONSTRUCTION_LOSS
        is_known = self.reconstruction_loss in RECONSTRUCTION_LOSSES
        require(is_known, f"for a loss {reconstruction_loss!r}, override VAE.loss_terms")
        # A number would be compiled into the training, and later changes be ignored.
        kl_weight = kl_weight.value if isinstance(kl_weight, keras.Variable) else kl_weight
        if not isinstance(kl_weight, tf.Variable):
            kl_weight = tf.Variable(float(kl_weight), trainable=False, dtype=tf.float64)
        # In a namespace neither Keras nor TensorFlow finds them: no checkpoint holds the images.
        pixels = tf.Variable(tf.zeros((0, IMAGE_SIDE**2)), False, shape=(None, IMAGE_SIDE**2))
        self.hidden = types.SimpleNamespace(kl_weight=kl_weight, pixels=pixels, compiled_for=[])
        self.means = [keras.metrics.Mean("reconstruction"), keras.metrics.Mean("kl")]
        self.compile(optimizer=adam(), jit_compile=True)
        z_mean, *_ = VAE.call(self, tf.zeros((2, IMAGE_SIDE**2)))  # which builds both parts
        self.latent_size, self.built = z_mean.shape[-1], True

    @property
    def kl_weight(self):
        """Weight of the KL divergence; a change takes effect in the next epoch of a training."""
        weight = self.hidden.kl_weight
        return float(weight) if tf.executing_eagerly() else tf.cast(weight, tf.float32)

    @kl_weight.setter
    def kl_weight(self, weight):
        self.hidden.kl_weight.assign(weight)

    def call(self, x, epsilon=0.0, training=False):
        """Return z_mean, z_log_sigma_sq [batch, 2] and reconstruction [batch, 784] of images.

        `epsilon` [batch, 2] is the noise of the latent codes. The reconstruction may be logits.
        """
        x = to_pixels(x)
        codes = self.encoder(x, training=training)
        shape = (x.shape[0], codes[0].shape[-1])
        z_mean, z_log_sigma_sq = as_float32("the encoder", codes, shape, shape)
        z = sample_latent(z_mean, z_log_sigma_sq, tf.cast(epsilon, tf.float32))
        outputs = self.decoder(tf.ensure_shape(z, z_mean.shape), training=training)
        (reconstruction,) = as_float32("the decoder", outputs, x.shape)
        return z_mean, z_log_sigma_sq, reconstruction

    def loss_terms(self, x, epsilon, training=False):
        """Return the reconstruction loss and the KL divergence of each image, [batch], in nats.

        `x` are pixels [batch, 784], `epsilon` [batch, 2] is a sample of N(0, I). Override this
        method to change the loss, and pass `epsilon` and `training` on, or the latent code is
        z_mean and dropout is off. Sum over the pixels: with their mean, the KL divergence would
        weigh 784 times as much. A Python number keeps its value in all epochs of a `fit`: make what
        callbacks change a weight, by `add_weight(trainable=False)`.
        """
        z_mean, z_log_sigma_sq, reconstruction = self(x, epsilon=epsilon, training=training)
        reconstruction_loss = RECONSTRUCTION_LOSSES[self.reconstruction_loss]
        return reconstruction_loss(x, reconstruction), kl_divergence(z_mean, z_log_sigma_sq)

    def mean_loss(self, x, epsilon, training=False):
        """Return the mean loss of a batch, and add the losses of its images to Keras' metrics."""
        terms = self.loss_terms(x, epsilon, training)
        reconstruction, kl = as_float32("loss_terms", terms, x.shape[:1], x.shape[:1])
        # [1] The listing adds the squared error of the whole batch to the KL divergence of each
        # image, which so weighs 1/128 of what the text says: latent codes spread beyond N(0, I).
        loss = reconstruction + self.kl_weight * kl
        means = {mean.name: mean for mean in self.metrics}
        for name, losses in {"loss": loss, "reconstruction": reconstruction, "kl": kl}.items():
            means[name].update_state(losses)
        return tf.reduce_mean(loss)

    def train_step(self, draws):
        """Train for an epoch with its `epoch_draws` on the images of `fit`; return its logs."""
        require(len(draws) == 2, "call fit(images): a VAE makes the batches itself")
        order, epsilon = draws

        def step(index, _):
            x = tf.gather(self.hidden.pixels, order[index])
            with tf.GradientTape() as tape:
                loss = self.mean_loss(x, epsilon[index], training=True)
                # The losses that layers add, as regularizers do, are minimised but not reported.
                # An optimizer with loss scaling, as for mixed_float16, scales the gradients back.
                objective = self.optimizer.scale_loss(loss + sum(self.losses))
            gradients = tape.gradient(objective, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return index

        keras.ops.fori_loop(0, tf.shape(order)[0], step, 0)
        return self.get_metrics_result() | {"kl_weight": tf.identity(self.hidden.kl_weight)}

    def fit(
        self, x, *, validation_data=None, batch_size=BATCH_SIZE, epochs=EPOCHS, seed=None, **options
    ):
        """Train on images (see `check_images`) and return a keras.callbacks.History.

        Its logs are means per image in nats: `loss`, `reconstruction` and `kl` over the epoch,
        while the weights change; `val_loss` and so on, of the images `validation_data`, after it.
        What an epoch draws is a function of `seed` and its number, so that `initial_epoch=2`
        continues a training as if it had not ended; keras.utils.set_random_seed sets the default.
        `options` are Keras'. Callbacks, to which an epoch is a batch, may set kl_weight, weights
        and the learning rate; other changes take effect in the next `fit`. Raises InputError.
        """
        x, seed = check_images(x, batch_size), given_or_drawn(seed)
        self.prepare()
        sizes = len(x), batch_size, self.latent_size
        draw = unconverted(lambda epoch: epoch_draws(seed, *sizes, epoch))
        draws = tf.data.Dataset.range(options.get("initial_epoch", 0), epochs).map(draw)
        without_autotuning = tf.data.Options()  # whose thread delays the end of `fit` by seconds
        without_autotuning.autotune.enabled = False
        if validation_data is not None:
            batches = self.evaluation_batches(validation_data, seed).cache()
            options["validation_data"] = batches.with_options(without_autotuning)
        if not self.optimizer.built:  # or Keras would compile the epoch twice
            self.optimizer.build(self.trainable_variables)
        self.hidden.pixels.assign(self.hidden.to_pixels(x))  # a GPU gets them once
        draws = draws.with_options(without_autotuning)
        try:
            return super().fit(draws, epochs=epochs, steps_per_epoch=1, shuffle=False, **options)
        except tf.errors.InvalidArgumentError as error:
            advice = "for what XLA cannot compile, compile(optimizer=..., jit_compile=False)"
            require("XLA" not in str(error), advice)
            raise
        finally:
            self.hidden.pixels.assign(tf.zeros((0, IMAGE_SIDE**2)))  # which frees their memory

    def prepare(self):
        """Check the model, or raise InputError; let Keras compile what has changed since it did."""
        ignored = map(self.get_compile_config().get, ("loss", "metrics", "weighted_metrics"))
        is_plain = not any(ignored) and self.steps_per_execution == 1
        require(is_plain, "compile takes optimizer and jit_compile; loss_terms makes the losses")
        is_ours = type(self).train_step is VAE.train_step
        require(is_ours, "a step of `fit` is an epoch: override loss_terms, not train_step")
        x = tf.zeros((2, IMAGE_SIDE**2))
        self.latent_size = self.encoder(x)[0].shape[-1]
        with tf.GradientTape() as tape:
            self.mean_loss(x, tf.zeros((2, self.latent_size)))
        tracked = {self.hidden.kl_weight.ref(), *(v.value.ref() for v in self.variables)}
        untracked = [v.name for v in tape.watched_variables() if v.ref() not in tracked]
        require(not untracked, f"Keras never trains {untracked}, which `add_weight` has not made")
        # Of far codes, because a decoder without a sigmoid leaves [0, 1] for some of them.
        z = 10 * np.random.default_rng(0).standard_normal((16, self.latent_size), np.float32)
        logits = np.float32(self.decoder(z))
        is_sigmoid = logits.any() and 0 <= logits.min() <= logits.max() <= 1
        is_fine = not is_sigmoid or self.reconstruction_loss != "cross-entropy"
        require(is_fine, "the cross-entropy takes logits: end the decoder without a sigmoid")
        attributes = [value for name, value in vars(self).items() if name not in SET_BY_KERAS]
        model = [*attributes, *self.trainable_variables]
        if [*map(id, model)] == [*map(id, self.hidden.compiled_for)]:
            return
        try:
            tf.function(tf.exp, jit_compile=self.jit_compile, autograph=False)(tf.zeros(1))
        except tf.errors.OpError as error:
            say(f"note: no XLA ({error.message}): training without it, slower", sys.stderr)
            self.jit_compile = False
        compiled = {"jit_compile": self.jit_compile, "autograph": False, "reduce_retracing": True}
        self.hidden.to_pixels = tf.function(to_pixels, **compiled)  # needs no temporary copies
        self.hidden.compiled_for = model
        self.predict_function = None
        self.make_train_function(force=True)
        jit_compile, self.jit_compile = self.jit_compile, False
        self.make_test_function(force=True)  # with XLA it would take longer than it saves
        self.jit_compile = jit_compile

    def with_noise(self, images, seed=None):
        """Return images [count, 784], checked, and noise for their latent codes [count, 2]."""
        images = check_images(images)
        shape = (len(images), self.latent_size)
        return images, tf.random.stateless_normal(shape, [given_or_drawn(seed), -1])

    def evaluation_batches(self, images, seed, batch_size=None):
        """Return a data set of batches for `test_step`: pixels and noise for their latent codes."""
        batches = tf.data.Dataset.from_tensor_slices(self.with_noise(images, seed))
        batches = batches.batch(batch_size or EVALUATION_BATCH_SIZE)
        return batches.map(unconverted(lambda images, noise: (to_pixels(images), noise)))

    def test_step(self, batch):
        """Add the losses of a batch, pixels and noise, to Keras' metrics; return these."""
        require(len(batch) == 2, "call evaluate(images): a VAE makes the batches itself")
        self.mean_loss(*batch)
        return self.get_metrics_result()

    def evaluate(self, x, *, seed=None, batch_size=None, **options):
        """Return the mean loss, reconstruction loss and KL divergence of images, in nats per image.

        `seed`: of their noise. `options`: Keras'; `return_dict=True` names the losses.
        """
        if "_use_cached_eval_dataset" in options:  # `fit` evaluates its validation data
            return super().evaluate(x, **options)
        self.prepare()
        return super().evaluate(self.evaluation_batches(x, seed, batch_size), **options)

    def image_losses(self, images, epsilon=None):
        """Return `loss_terms` of all images, NumPy [count]; by default `epsilon` is drawn anew.

        With an `epsilon` of 0 the latent codes are z_mean: lower losses, not the negative ELBO.
        """
        images, noise = self.with_noise(images)
        epsilon = noise if epsilon is None else np.broadcast_to(np.float32(epsilon), noise.shape)
        return in_batches(self.loss_terms, images, epsilon)

    def predict(self, x, **options):
        """Return what `call` returns, NumPy, of images (see `check_images`); `options`: Keras'."""
        self.prepare()
        return super().predict(check_images(x), **options)

    def encode(self, images):
        """Encode images (see `check_images`) -> z_mean, z_log_sigma_sq, NumPy [count, 2]."""
        return in_batches(self.encoder, check_images(images))

    def decode(self, z):
        """Decode latent codes [count, 2] or [2] -> pixels [count, 784], NumPy, in [0, 1]."""
        outputs = tf.cast(self.decoder(np.array(z, np.float32, ndmin=2)), tf.float32)
        are_logits = self.reconstruction_loss == "cross-entropy"
        return np.clip(tf.sigmoid(outputs) if are_logits else outputs, 0, 1)  # [4]

    def sample_prior(self, count, seed=None):
        """Return latent codes z ~ N(0, I), NumPy [count, 2]; override it for another prior."""
        rng = np.random.default_rng(given_or_drawn(seed))
        return rng.standard_normal((count, self.latent_size), np.float32)

    def get_config(self):
        """Return what `from_config` needs to make this model again, without its weights."""
        config = {"encoder": self.encoder, "decoder": self.decoder, "kl_weight": self.kl_weight}
        config["reconstruction_loss"] = self.reconstruction_loss
        return super().get_config() | keras.saving.serialize_keras_object(config)

    @classmethod
    def from_config(cls, config):
        """Return the model that `get_config` describes."""
        model = cls(**keras.saving.deserialize_keras_object(config))
        model(tf.zeros((1, IMAGE_SIDE**2)))  # builds the layers that a subclass adds
        return model

    def export(self, filepath, *args, **options):
        """Export the model as Keras does; its input is pixels [batch, 784], float32."""
        pixels = tf.TensorSpec((None, IMAGE_SIDE**2), tf.float32)
        super().export(filepath, *args, **{"input_signature": [pixels]} | options)


def as_float32(source, outputs, *shapes):
    """Return outputs of a part of the model in float32, or raise InputError for other shapes."""
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    tensors = [tf.cast(output, tf.float32) for output in outputs]
    found = [tensor.shape for tensor in tensors]
    fits = len(found) == len(shapes) and all(map(tf.TensorShape.is_compatible_with, found, shapes))
    require(fits, f"{source} must return {[*map(str, shapes)]}, not {[*map(str, found)]}")
    return tensors


def in_batches(function, images, *arrays):
    """Return what a function of pixels, and of rows of arrays, returns for all images, as NumPy."""
    starts, size = range(0, len(images), EVALUATION_BATCH_SIZE), EVALUATION_BATCH_SIZE
    batches = [[array[start : start + size] for array in (images, *arrays)] for start in starts]
    results = [function(to_pixels(x), *rows) for x, *rows in batches]
    return tuple(np.concatenate(parts).astype(np.float32) for parts in zip(*results, strict=True))


class EpochTable(keras.callbacks.Callback):
    """A Keras callback that prints the losses of each epoch as a line of a table."""

    def on_train_begin(self, logs=None):
        """Print the heading."""
        say("       training                        validation")
        say("epoch      loss  reconstruction    KL        loss  reconstruction    KL")

    def on_epoch_end(self, epoch, logs=None):
        """Print the means over the epoch, and the losses of the validation images after it."""
        line = "{:>5}{loss:>10.2f}{reconstruction:>16.2f}{kl:>6.2f}"
        if "val_loss" in logs:
            line += "{val_loss:>12.2f}{val_reconstruction:>16.2f}{val_kl:>6.2f}"
        say(line.format(epoch + 1, **logs))  # [6]


def knn_accuracy(codes, labels, test_codes, test_labels):
    """Return the share of test codes whose label is the most frequent of the NEIGHBOURS nearest."""
    labels = check_labels(labels, len(codes))
    _, nearest = cKDTree(codes).query(test_codes, range(1, min(NEIGHBOURS, len(codes)) + 1))
    classes = np.unique(labels)
    votes = [np.sum(labels[nearest] == label, axis=1) for label in classes]
    winners = classes[np.argmax(votes, axis=0)]
    return float(np.mean(winners == check_labels(test_labels, len(test_codes))))


def is_collapsed(z_mean, z_log_sigma_sq):
    """Return whether the Gaussians of images, [count, 2] twice, show posterior collapse."""
    return bool(np.mean(kl_divergence(z_mean, z_log_sigma_sq)) < COLLAPSED_KL)


# ---- Figures -------------------------------------------------------------------------------------
# A notebook displays them, elsewhere call `savefig`. They look the same in every style.

default_style = matplotlib.rc_context(matplotlib.rcParamsDefault)


def new_figure(width, height, rows=1, columns=1, **axes_options):
    """Return a figure of a size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="compressed")
    figure.savefig, figure.draw = default_style(figure.savefig), default_style(figure.draw)
    return figure, figure.subplots(rows, columns, subplot_kw=axes_options)


def show_images(axes, images, columns=1, **options):
    """Show images [count, 784] row by row as one picture, in fixed grey levels."""
    tiles = np.reshape(to_pixels(check_images(images)), (-1, columns, IMAGE_SIDE, IMAGE_SIDE))
    pixels = tiles.transpose(0, 2, 1, 3).reshape(-1, columns * IMAGE_SIDE)
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}  # [4]
    axes.imshow(pixels, interpolation_stage="data", **grey, **options)  # it takes 80 MB less so


@default_style
def reconstructions_figure(x, reconstruction):
    """Draw images [count, 784] over their reconstructions: figure 10-18 of the original."""
    figure, _ = new_figure(0.8 * len(x) + 0.3, 1.7, 2, len(x), xticks=[], yticks=[])
    for axes, image in zip(figure.axes, [*x, *reconstruction], strict=True):
        show_images(axes, image)
    figure.axes[0].set_ylabel("original", fontsize=7)
    figure.axes[len(x)].set_ylabel("reconstruction", fontsize=7)
    return figure


def class_colours(count):
    """Return a colour, "#rrggbb", for each of `count` classes."""
    many = map(colors.to_hex, matplotlib.colormaps["turbo"](np.linspace(0, 1, count)))
    return CLASS_COLOURS[:count] if count <= len(CLASS_COLOURS) else tuple(many)


@default_style
def latent_scatter_figure(z, labels, *, classes=None):
    """Draw latent codes [count, 2], coloured by their labels: figure 10-19 of the original.

    `classes`: all of the data set. The dashed square is the region that the manifold shows.
    """
    z, labels = np.asarray(z), check_labels(labels, len(z))
    classes = np.union1d(labels, labels if classes is None else classes)
    edge = MANIFOLD_QUANTILES[-1]
    limit = 1.05 * max(np.abs(z).max(), edge)
    figure, axes = new_figure(6.6, 5.8, aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    cmap = colors.ListedColormap(class_colours(len(classes)))
    norm = colors.BoundaryNorm(np.arange(len(classes) + 1) - 0.5, len(classes))
    style = {"c": np.searchsorted(classes, labels), "cmap": cmap, "norm": norm, "linewidths": 0}
    bar = figure.colorbar(axes.scatter(*z.T, s=4, **style), label="class")
    ticks = range(0, len(classes), 1 + (len(classes) - 1) // NAMED_CLASSES)
    bar.set_ticks(ticks, labels=classes[ticks])
    bar.ax.tick_params(which="both", length=0)
    axes.add_patch(patches.Rectangle((-edge, -edge), 2 * edge, 2 * edge, fill=False, ls="--"))
    if len(classes) <= NAMED_CLASSES:
        names = np.unique(labels)
        places = np.array([np.median(z[labels == name], axis=0) for name in names])
        for _ in range(100):  # moves names apart that would overlap
            ways = places[:, None] - places
            lengths = np.maximum(np.linalg.norm(ways, axis=-1, keepdims=True), 1e-9)
            places = places + np.sum(np.maximum(limit / 9 / lengths - 1, 0) * ways, axis=1) / 4
        style = {"ha": "center", "va": "center", "fontsize": 12, "fontweight": "bold"}
        style["path_effects"] = [patheffects.withStroke(linewidth=3, foreground="white")]
        for name, place in zip(names, places, strict=True):
            axes.text(*place, name, **style)
    return figure


def manifold_codes():
    """Return the latent codes of the manifold's digits, [225, 2], row by row of the picture."""
    # [3] The listing begins with the lowest z_2, so that its picture has z_2 downward.
    z_1, z_2 = np.meshgrid(MANIFOLD_QUANTILES, MANIFOLD_QUANTILES[::-1])
    return np.stack([z_1.ravel(), z_2.ravel()], axis=-1).astype(np.float32)


@default_style
def manifold_figure(pixels):
    """Draw the decoded `manifold_codes`, [225, 784]: figure 10-20 of the original."""
    side = len(MANIFOLD_QUANTILES)
    figure, axes = new_figure(6.6, 6.6, xlabel="$z_1$", ylabel="$z_2$")
    show_images(axes, pixels, side, extent=(0, side, 0, side))
    quantiles = [f"{value:.2f}" for value in MANIFOLD_QUANTILES.round(2) + 0.0]  # no "-0.00"
    axes.set_xticks(np.arange(side) + 0.5, quantiles, fontsize=8)
    axes.set_yticks(np.arange(side) + 0.5, quantiles, fontsize=8)
    return figure


@default_style
def samples_figure(pixels):
    """Draw digits decoded from samples of the prior, [64, 784], in rows of eight."""
    figure, axes = new_figure(4.0, 4.0, xticks=[], yticks=[])
    show_images(axes, pixels, 8)
    return figure


@default_style
def training_curves_figure(history):
    """Draw the loss and its parts over the epochs of a keras.callbacks.History, or of its dict."""
    logs = getattr(history, "history", history)
    epochs = 1 + np.array(getattr(history, "epoch", range(len(logs["loss"]))))
    titles = {"loss": "loss", "reconstruction": "reconstruction loss", "kl": "KL divergence"}
    figure, panels = new_figure(9.0, 2.9, 1, 3, xlabel="epoch", ylabel="nats per image")
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        axes.plot(epochs, logs[name], ".-", markersize=3, label="training")
        if len(logs.get(f"val_{name}", [])) == len(epochs):
            axes.plot(epochs, logs[f"val_{name}"], ".--", markersize=3, label="validation")
        axes.set_title(title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    return figure


# ---- Data ----------------------------------------------------------------------------------------
MNIST = Path(__file__).resolve().parent / "data" / "mnist.npz"
IDX_NAMES = {"x_train": "train-images-idx3-ubyte", "y_train": "train-labels-idx1-ubyte"}
IDX_NAMES |= {"x_test": "t10k-images-idx3-ubyte", "y_test": "t10k-labels-idx1-ubyte"}
# Images are uint8 [count, 784] from 0 to 255, labels whole numbers [count], classes all labels.
Data = namedtuple("Data", "name x_train y_train x_validation y_validation x_test y_test classes")


class InputError(ValueError):
    """A fault that the user can mend; the program prints its text, one line, and ends."""


def require(is_met, text):
    """Raise InputError with a text unless a requirement is met."""
    if not is_met:
        raise InputError(text)


def check_images(images, batch_size=1):
    """Return images [count, 784] as uint8 from 0 to 255 or as float32 from 0 to 1.

    `images` are whole numbers from 0 to 255, of any integer type, or floats from 0 to 1, in the
    shape [count, 28, 28], [count, 28, 28, 1] or [count, 784], or that of a single image. Raises
    InputError, a ValueError, for anything else, and for fewer than a batch.
    """
    require(not isinstance(images, tuple), "a VAE takes images alone, one array, without labels")
    images, side, size = np.asarray(images), IMAGE_SIDE, IMAGE_SIDE**2
    shapes = {(side, side), (side, side, 1), (size,)}
    has_shape = not shapes.isdisjoint((images.shape, images.shape[1:]))
    is_number = images.dtype.kind in "uif" and images.size > 0
    kind, highest = (np.float32, 1) if images.dtype.kind == "f" else (np.uint8, 255)
    is_fine = has_shape and is_number and images.min() >= 0 and images.max() <= highest
    limits = f" from {images.min():g} to {images.max():g}" if is_number else ""
    needed = f"{side} x {side} bytes, whole numbers from 0 to 255, or pixels, floats from 0 to 1"
    found = f"{images.dtype} of shape {images.shape}{limits}"
    require(is_fine, f"images are {found}; they must be {needed} (bytes / 255)")
    images = images.astype(kind, copy=False).reshape(-1, size)
    is_batch = 1 <= batch_size <= len(images)
    require(is_batch, f"a batch of {batch_size} from {len(images):,} training images")
    return images


def check_labels(labels, count):
    """Return labels, whole numbers [count] or [count, 1], as [count]; or raise InputError."""
    labels = np.asarray(labels)
    is_fine = labels.dtype.kind in "ui" and labels.shape in ((count,), (count, 1))
    require(is_fine, f"labels {labels.shape} must be {count} whole numbers, and not one-hot")
    return labels.ravel()


def to_pixels(images):
    """Convert images to pixels, float32 in [0, 1]: bytes, of any integer type, divided by 255."""
    images = tf.convert_to_tensor(images)
    pixels = tf.cast(images, tf.float32)
    return pixels if images.dtype.is_floating else pixels / 255


def load_data(path=MNIST):
    """Return the training, validation and test images with their labels as `Data`.

    `path` is an .npz file in Keras' layout, or a directory with the four IDX files of a data set
    like MNIST. The first twelfth of the training images is the validation set. Raises InputError.
    """
    path = Path(path).expanduser().resolve()
    (x, y), (x_test, y_test) = (read_set(path, part) for part in ("train", "test"))
    count = max(1, len(x) // 12)
    sets = (x[count:], y[count:], x[:count], y[:count], x_test, y_test)
    return Data("MNIST" if path == MNIST else path.name, *sets, classes=np.union1d(y, y_test))


def read_set(path, part):
    """Return images, uint8 [count, 784], and labels [count], shuffled where sorted by class."""
    try:
        images, labels = (read_array(path, f"{name}_{part}") for name in "xy")
        images, labels = check_images(images), check_labels(labels, len(images))
    except Exception as error:  # whatever zip, gzip, zlib and NumPy make of a damaged file
        reason = f"{path}, {part} set: {getattr(error, 'strerror', None) or error}"
        raise InputError(f"{reason}; give an .npz file or a folder of IDX files") from error
    images = images if images.dtype == np.uint8 else np.rint(255 * images).astype(np.uint8)
    if not np.isin(labels, labels[: 10 * len(np.unique(labels))]).all():
        order = np.random.default_rng(0).permutation(len(labels))
        images, labels = images[order], labels[order]
    return images, labels


def read_array(path, name):
    """Return an array of an .npz file, or of a directory of IDX files, plain or .gz."""
    if not path.is_dir():
        with zipfile.ZipFile(path) as archive:  # NumPy would advise to unpickle another file
            return np.load(archive.open(f"{name}.npy"))
    plain = (IDX_NAMES[name], IDX_NAMES[name].replace("-idx", ".idx"))  # as Kaggle names them
    held = sorted(file.name for file in path.iterdir() if file.is_file())
    found = [file for file in held if file.removesuffix(".gz") in plain]  # the plain one first
    require(found, f"it has no {IDX_NAMES[name]}, but {held[:20]}")
    content = (path / found[0]).read_bytes()
    content = gzip.decompress(content) if found[0].endswith(".gz") else content
    is_idx = content[:3] == b"\0\0\x08" and len(content) > 3
    require(is_idx, f"{found[0]} has no IDX header for unsigned bytes")
    shape = np.frombuffer(content, ">u4", content[3], offset=4)  # content[3] dimensions
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


# ---- Program -------------------------------------------------------------------------------------
def say(text, file=None):
    """Print a line; where it cannot be printed, as into a closed pipe, nothing ends."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=file, flush=True)


def parse_arguments(argv=None):
    """Return the options; wrong ones end the program with one line and status 2."""
    about = "A variational autoencoder (VAE) for MNIST with a 2-D latent space."
    usage = argparse.SUPPRESS  # or it would precede every error
    show_defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser("vae_mnist.py", usage, about, formatter_class=show_defaults)
    add = parser.add_argument
    add("--data", metavar="PATH", default=str(MNIST), help="an .npz file or a folder of IDX files")
    add("--epochs", type=int, default=EPOCHS, help="passes over the training images")
    add("--batch-size", type=int, default=BATCH_SIZE, help="images a step")
    add("--learning-rate", type=float, default=LEARNING_RATE, help="learning rate of Adam")
    losses = {"choices": RECONSTRUCTION_LOSSES, "default": RECONSTRUCTION_LOSS}
    add("--reconstruction-loss", **losses, help="loss of a reconstruction, summed over the pixels")
    add("--kl-weight", type=float, default=KL_WEIGHT, help="weight of the KL divergence")
    add("--seed", type=int, default=0, help="the same seed gives the same numbers and pictures")
    add("--output-dir", default="outputs", help="directory for the files that a run writes")
    options = parser.parse_args(argv)
    options.output_dir = Path(options.output_dir).expanduser()
    require(options.epochs >= 1, "--epochs must be at least 1")
    require(options.batch_size >= 1, "--batch-size must be at least 1")
    require(0 < options.learning_rate < np.inf, "--learning-rate must be a number above 0")
    require(0 <= options.kl_weight < np.inf, "--kl-weight must be a number of at least 0")
    require(0 <= options.seed < 2**32, "--seed must be from 0 to 2**32 - 1")
    return options


def train_model(options, data):
    """Return a trained model and the explorer.Recorder of its training, or None."""
    keras.utils.set_random_seed(options.seed)
    model = VAE(reconstruction_loss=options.reconstruction_loss, kl_weight=options.kl_weight)
    model.compile(optimizer=adam(options.learning_rate), jit_compile=True)
    recorder = explorer and explorer.Recorder(data.x_test, data.y_test)
    callbacks = [keras.callbacks.TerminateOnNaN(), EpochTable(), *filter(None, [recorder])]
    settings = {"epochs": options.epochs, "batch_size": options.batch_size, "seed": options.seed}
    settings |= {"validation_data": data.x_validation, "callbacks": callbacks, "verbose": 0}
    logs = [*model.fit(data.x_train, **settings).history.values()]
    advice = "the loss is not finite; try a smaller --learning-rate or --kl-weight"
    require(np.isfinite(logs).all(), advice)
    return model, recorder


def explorer_page(model, data, recorder=None, losses=None):
    """Return the page to explore the latent space, bytes of HTML; or raise explorer.PageError."""
    require(explorer, "there is no folder explorer beside vae_mnist.py")
    losses = losses or model.evaluate(data.x_test, seed=0, verbose=0, return_dict=True)
    settings = {"colours": class_colours(len(data.classes)), "edge": MANIFOLD_QUANTILES[-1]}
    settings |= {"neighbours": NEIGHBOURS, "collapsed": is_collapsed(*model.encode(data.x_test))}
    return explorer.make_page(model, data, recorder, losses=losses, **settings)


def output_files(options, data, model, recorder):
    """Print the results on the test images; yield each file's name and what writes it to a path."""
    yield "vae.keras", model.save  # first what took the time
    test = model.evaluate(data.x_test, seed=options.seed, verbose=0, return_dict=True)
    z_mean, z_log_sigma_sq = model.encode(data.x_test)
    accuracy = knn_accuracy(model.encode(data.x_train)[0], data.y_train, z_mean, data.y_test)
    weight = "" if model.kl_weight == 1 else f"{model.kl_weight:g} x "
    line = "test loss {loss:.4f} = {reconstruction:.4f} reconstruction + {weight}{kl:.4f} KL"
    say(line.format(**test, weight=weight))
    say(f"k-NN accuracy {accuracy:.4f} (k = {NEIGHBOURS}, training to test codes)")
    if is_collapsed(z_mean, z_log_sigma_sq):
        say("note: posterior collapse; try another --seed or a smaller --kl-weight", sys.stderr)
    metrics = {name: value for name, value in vars(options).items() if name != "output_dir"}
    metrics |= {"data": data.name, "model": type(model).__name__, "test": test}
    metrics |= {"train_images": len(data.x_train), "test_images": len(data.x_test)}
    metrics |= {"latent_size": model.latent_size, "parameters": model.count_params()}
    text = json.dumps(metrics | {"knn_accuracy": accuracy}, indent=2) + "\n"
    yield "metrics.json", lambda path: path.write_text(text, "utf-8")
    columns = {"epoch": 1 + np.array(model.history.epoch), **model.history.history}
    rows = np.transpose([*columns.values()])
    csv = {"fmt": "%.17g", "delimiter": ",", "header": ",".join(columns), "comments": ""}
    yield "history.csv", lambda path: np.savetxt(path, rows, **csv)
    _, noise = model.with_noise(data.x_test, options.seed)
    z = sample_latent(z_mean, z_log_sigma_sq, noise).numpy()
    figures = {
        "reconstructions": reconstructions_figure(data.x_test[:10], model.decode(z[:10])),
        "samples": samples_figure(model.decode(model.sample_prior(64, options.seed))),
        "training_curves": training_curves_figure(model.history),
    }
    if model.latent_size == 2:
        figures["latent_scatter"] = latent_scatter_figure(z, data.y_test, classes=data.classes)
        figures["manifold"] = manifold_figure(model.decode(manifold_codes()))
    else:
        say("note: not two latent dimensions: no latent_scatter.png, no manifold.png", sys.stderr)
    for name, figure in figures.items():
        yield f"{name}.png", lambda path, figure=figure: figure.savefig(path, dpi=200)
    try:
        page = explorer_page(model, data, recorder, test)
        yield "explorer.html", lambda path: path.write_bytes(page)
        say(f"open {options.output_dir / 'explorer.html'} in a browser")
    except getattr(explorer, "PageError", InputError) as error:
        say(f"note: {error}: explorer.html is not written", sys.stderr)


def write_files(directory, files):
    """Write files as `output_files` yields them; each is the old one or the new one, whole."""
    failures = []
    for name, write in files:
        target = (directory / name).resolve()  # where it is a link, the link stays
        try:
            with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=target.parent) as folder:
                write(Path(folder, name))
                os.replace(Path(folder, name), target)
            say(f"wrote {directory / name}")
        except OSError as error:
            failures.append(f"{directory / name} ({error.strerror or error})")
    advice = "close programs that use it, or give another --output-dir"
    require(not failures, f"cannot write {', '.join(failures)}; {advice}")


def main(argv=None):
    """Run the program with the arguments `argv` and return its exit status."""
    if hasattr(sys.stdout, "reconfigure"):  # not so in a notebook
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = parse_arguments(argv)
        data = load_data(options.data)
        check_images(data.x_train, options.batch_size)
        try:
            options.output_dir.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=options.output_dir).close()  # or it fails after the training
        except OSError as error:
            raise InputError(f"argument --output-dir: {error.strerror}") from error
        counts = len(data.x_train), len(data.x_validation), len(data.x_test)
        line = "{}: {:,} training, {:,} validation and {:,} test images; losses in nats per image"
        say(line.format(data.name, *counts))
        model, recorder = train_model(options, data)
        write_files(options.output_dir, output_files(options, data, model, recorder))
    except InputError as error:
        say(f"vae_mnist.py: error: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("vae_mnist.py: interrupted", sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    gc.freeze()  # garbage collection need not go through all that the imports have made
    sys.exit(main())
