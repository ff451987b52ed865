# /// script
# # Raise the upper bound once TensorFlow has wheels for a newer Python (2.22 has them for 3.14).
# requires-python = ">=3.10,<3.14"
# dependencies = ["tensorflow>=2.16", "keras>=3.9", "numpy>=1.25", "scipy", "matplotlib>=3.9"]
# ///
"""A variational autoencoder (VAE) that learns MNIST digits through a two-dimensional latent space.

    784 pixels -> 256 -> z_mean (2), z_log_sigma_sq (2) -> z (2) -> 256 -> 784 pixels

The encoder maps an image to a normal distribution over the latent space, the posterior. A latent
code z is sampled from it, and the decoder reconstructs the image from z. Training minimises the
negative evidence lower bound (ELBO) of Kingma & Welling, "Auto-Encoding Variational Bayes" (2013):
for each image, a reconstruction loss plus the Kullback-Leibler (KL) divergence of the posterior
from the prior N(0, I). The KL divergence keeps the posteriors close to the prior, so that decoding
samples z ~ N(0, I) generates new digits.

This is a TensorFlow 2 port of example 82 in section 10.9 of 李金洪 (Li Jinhong),
《深度学习之TensorFlow：入门、原理与进阶实战》 (2018). It differs from the book's listing on purpose
in six places. README.md explains them; their numbers stand where the code differs:

    [1] the KL term has its full weight [4] pixels are clipped to [0, 1] for display
    [2] the initial weights are larger  [5] the incomplete last batch is dropped
    [3] the manifold has z_2 upward     [6] losses are means per image, printed every epoch

Images are bytes from 0 to 255; `to_pixels` converts them to pixels in [0, 1]. Losses are in nats
per image. `python vae_mnist.py --help` lists the options.
"""

import argparse
import contextlib
import csv
import functools
import gc
import gzip
import hashlib
import importlib.util
import io
import itertools
import json
import math
import multiprocessing.pool
import os
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import NamedTuple

# Keras and TensorFlow read these when they are imported: the backend, and how much they log.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# A notebook passes its matplotlib backend on to programs whose environment may lack that module.
_, is_module, mpl_module = os.environ.get("MPLBACKEND", "").partition("module://")
if is_module and importlib.util.find_spec(mpl_module.partition(".")[0]) is None:
    del os.environ["MPLBACKEND"]

try:
    if sys.version_info < (3, 10):
        raise ImportError(f"Python {sys.version.split()[0]} is too old; use 3.10 or later")
    import keras
    import matplotlib
    import numpy as np
    import tensorflow as tf
    from matplotlib import colors, patches, patheffects
    from matplotlib.figure import Figure
    from scipy.spatial import cKDTree
    from scipy.special import ndtri

    for package, oldest in ((tf, (2, 16)), (keras, (3, 9)), (np, (1, 25)), (matplotlib, (3, 9))):
        version = package.__version__
        if tuple(map(int, version.split(".")[:2])) < oldest:
            raise ImportError(f"{package.__name__} {version} is too old; see requirements.txt")
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ImportError(f"Keras already runs on {backend}; import vae_mnist before keras")
except ImportError as error:
    if __name__ != "__main__":
        raise
    remedy = "; see requirements.txt" if isinstance(error, ModuleNotFoundError) else ""
    print(f"vae_mnist.py: error: {error}{remedy}", file=sys.stderr)
    sys.exit(2)

# ---- Settings ------------------------------------------------------------------------------------
# Edit them here. A program that imports this file may set them before it makes a model, except for
# the first five: these are default arguments, so pass others to `VAE`, `adam` and `train`.

EPOCHS = 50
BATCH_SIZE = 128
LEARNING_RATE = 0.001
RECONSTRUCTION_LOSS = "squared-error"  # or "cross-entropy"
KL_WEIGHT = 1.0  # the beta of the beta-VAE; 1 gives the negative ELBO
HIDDEN_SIZE = 256
LATENT_SIZE = 2  # dimensions of the latent space; the scatter and the manifold need two
IMAGE_SIDE = 28  # pixels; images are square

NEIGHBOURS = 25  # k of the k-nearest-neighbour (k-NN) accuracy
COLLAPSED_KL = 0.05  # nats per image; a KL divergence below it is reported as posterior collapse
RECORDED_IMAGES = 2000  # test images whose latent codes during training the page shows

# The manifold's axes: 15 equal steps in probability under N(0, 1), from 5 % to 95 %. `ndtri` is
# scipy.stats.norm.ppf, faster to import.
MANIFOLD_QUANTILES = ndtri(np.linspace(0.05, 0.95, 15))
# No two of them look alike as small dots, on white or on black, and none is grey. Digits that look
# alike are neighbours in the latent space: they have the colours that differ most.
CLASS_COLOURS = ("#1a8cff", "#ff947d", "#eaaafb", "#ec0082", "#c51800")  # 0 to 4
CLASS_COLOURS += ("#bedf00", "#b88500", "#732aff", "#007942", "#24d8be")  # 5 to 9

# ---- Model ---------------------------------------------------------------------------------------


def build_encoder():
    """Return the original's encoder: pixels [batch, 784] -> z_mean, z_log_sigma_sq [batch, 2].

    The second output is the logarithm of the variance, because a layer can return any number and
    the exponential of any number is a valid, positive variance.
    """
    # [2] The listing's initial weights have a standard deviation of 0.001. With the full KL term
    # they often end in posterior collapse. Keras' default, Glorot uniform, does not.
    x = keras.Input((IMAGE_SIDE**2,), name="x")
    h1 = keras.layers.Dense(HIDDEN_SIZE, activation="relu", name="h1")(x)
    z_mean = keras.layers.Dense(LATENT_SIZE, name="z_mean")(h1)
    z_log_sigma_sq = keras.layers.Dense(LATENT_SIZE, name="z_log_sigma_sq")(h1)
    return keras.Model(x, [z_mean, z_log_sigma_sq], name="encoder")


def build_decoder():
    """Return the original's decoder: latent codes [batch, 2] -> reconstruction [batch, 784].

    The last layer has no activation: with the squared error its outputs are means of Gaussians,
    with the cross-entropy logits. Both can be any number.
    """
    z = keras.Input((LATENT_SIZE,), name="z")
    h2 = keras.layers.Dense(HIDDEN_SIZE, activation="relu", name="h2")(z)
    reconstruction = keras.layers.Dense(IMAGE_SIDE**2, name="reconstruction")(h2)
    return keras.Model(z, reconstruction, name="decoder")


def sample_latent(z_mean, z_log_sigma_sq, epsilon):
    """Return z = z_mean + sigma * epsilon, all [batch, 2], where epsilon ~ N(0, I).

    The reparameterisation trick of Kingma & Welling (2013), section 2.4: the randomness is an
    input, so gradients flow through z_mean and sigma.
    """
    sigma = tf.exp(0.5 * z_log_sigma_sq)
    return z_mean + sigma * epsilon


@keras.saving.register_keras_serializable(package="vae_mnist")
class VAE(keras.Model):
    """An encoder and a decoder, trained together by `train`.

    Arguments:
        encoder: a Keras model, pixels [batch, 784] -> z_mean and z_log_sigma_sq, each
            [batch, latent size]. Default: the original's.
        decoder: a Keras model, latent codes [batch, latent size] -> reconstruction [batch, 784].
            Default: the original's.
        reconstruction_loss: "squared-error", "cross-entropy", or a function
            (x, reconstruction) -> loss of each image, [batch, 784] twice -> [batch], in nats,
            registered by `keras.saving.register_keras_serializable`. It is a sum over the pixels:
            with a mean, the KL divergence would weigh 784 times as much.
        from_logits: whether the decoder returns logits; the pixels are then their sigmoid.
            Default: only for "cross-entropy".
        kl_weight: weight of the KL divergence, at least 0. It may be changed at any time.

    All are saved with the model. Raises ValueError for arguments that do not fit together.
    """

    def __init__(
        self,
        encoder=None,
        decoder=None,
        *,
        reconstruction_loss=RECONSTRUCTION_LOSS,
        from_logits=None,
        kl_weight=KL_WEIGHT,
        name="vae",
        **kwargs,
    ):
        # Without autocast, pixels and losses stay float32 in mixed precision.
        super().__init__(name=name, autocast=False, **kwargs)
        self.encoder = build_encoder() if encoder is None else encoder
        self.decoder = build_decoder() if decoder is None else decoder
        self.reconstruction_loss = reconstruction_loss
        self.from_logits = from_logits
        self.kl_weight = kl_weight
        if callable(reconstruction_loss) and not is_registered(reconstruction_loss):
            raise ValueError(
                "register the reconstruction loss by @keras.saving.register_keras_serializable(): "
                "the model could not be saved otherwise"
            )
        self.latent_size = check_model(self)
        self.built = True  # `check_model` has built both parts

    def get_config(self):
        """Return what `from_config` needs to make this model again, without its weights."""
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "reconstruction_loss": serialize(self.reconstruction_loss),
            "from_logits": self.from_logits,
            "kl_weight": float(self.kl_weight),
        }

    @classmethod
    def from_config(cls, config):
        """Return the model that `get_config` describes."""
        parts = ("encoder", "decoder", "reconstruction_loss")
        made = {part: keras.saving.deserialize_keras_object(config[part]) for part in parts}
        model = cls(**config | made)
        model(tf.zeros((1, IMAGE_SIDE**2)))  # builds the layers that a subclass adds
        return model

    def call(self, x, epsilon=0.0, training=False):
        """Encode pixels `x` [batch, 784], sample latent codes with `epsilon`, and decode them.

        Returns z_mean, z_log_sigma_sq [batch, 2] and reconstruction [batch, 784]. The last is the
        output of the decoder, which may be logits: `decode_pixels` returns pixels. Without
        `epsilon` the latent code is z_mean. Raises TypeError for integers: they are images whose
        bytes are not converted to pixels yet.
        """
        kind = keras.backend.standardize_dtype(x.dtype)
        if not keras.backend.is_float_dtype(kind):
            raise TypeError(f"pixels must be floats in [0, 1], not {kind}: see `to_pixels`")
        codes = self.encoder(x, training=training)
        z_mean, z_log_sigma_sq = (tf.cast(code, x.dtype) for code in codes)
        z = sample_latent(z_mean, z_log_sigma_sq, tf.cast(epsilon, x.dtype))
        reconstruction = self.decoder(z, training=training)
        return z_mean, z_log_sigma_sq, tf.cast(reconstruction, x.dtype)

    @property
    def decodes_logits(self):
        """Whether the decoder's outputs are logits: `from_logits`, by default for cross-entropy."""
        if self.from_logits is None:
            return self.reconstruction_loss == "cross-entropy"
        return self.from_logits

    def loss_terms(self, x, epsilon, training=False):
        """Return the reconstruction loss and the KL divergence of each image, [batch], in nats.

        `x` are pixels [batch, 784], `epsilon` [batch, 2] is a sample of N(0, I). Override this
        method to change the loss of training and evaluation.
        """
        z_mean, z_log_sigma_sq, reconstruction = self(x, epsilon=epsilon, training=training)
        reconstruction_loss = reconstruction_loss_function(self.reconstruction_loss)
        return reconstruction_loss(x, reconstruction), kl_divergence(z_mean, z_log_sigma_sq)

    def decode_pixels(self, z):
        """Decode latent codes [count, 2], or a single one -> pixels [count, 784], NumPy, in [0, 1].

        To generate new digits, decode samples z ~ N(0, I): rng.standard_normal((count, 2)).
        """
        reconstruction = self.decoder(np.array(z, np.float32, ndmin=2), training=False)
        reconstruction = tf.cast(reconstruction, tf.float32)
        if self.decodes_logits:
            reconstruction = tf.sigmoid(reconstruction)
        return np.clip(reconstruction, 0, 1)  # [4]

    def export(self, filepath, *args, **kwargs):
        """Export the model as Keras does; its input is pixels [batch, 784], float32."""
        kwargs.setdefault("input_signature", [tf.TensorSpec((None, IMAGE_SIDE**2), tf.float32)])
        return super().export(filepath, *args, **kwargs)

    def fit(self, *args, **kwargs):
        """Raise TypeError: the model is trained by `train`."""
        raise TypeError(
            "use vae_mnist.train(model, x_train, x_validation): it compiles a whole epoch as one "
            "function, which is 1.5 times as fast as `fit` at its best"
        )

    def evaluate(self, *args, **kwargs):
        """Raise TypeError: the model is evaluated by the function `evaluate`."""
        raise TypeError("use vae_mnist.evaluate(model, images)")

    def compute_loss(self, *args, **kwargs):
        """Raise TypeError: Keras' own training steps do not know the loss of a VAE."""
        raise TypeError("use vae_mnist.train, or `loss_terms` in a training step of your own")


def check_model(model):
    """Return the latent size of a VAE, or raise ValueError where its parts do not fit together.

    It calls encoder, decoder and loss with two black images, which also builds the layers that
    wait for their first input.
    """
    x = tf.zeros((2, IMAGE_SIDE**2))
    codes = model.encoder(x, training=False)
    if not isinstance(codes, list | tuple) or len(codes) != 2:
        raise ValueError("the encoder must return two outputs, z_mean and z_log_sigma_sq")
    z_mean, z_log_sigma_sq = codes
    if len(z_mean.shape) != 2 or z_mean.shape != z_log_sigma_sq.shape:
        raise ValueError(
            "z_mean and z_log_sigma_sq must both be [batch, latent size], not "
            f"{tuple(z_mean.shape)} and {tuple(z_log_sigma_sq.shape)}"
        )
    reconstruction = model.decoder(z_mean, training=False)
    if reconstruction.shape != x.shape:
        raise ValueError(
            f"the decoder must return [batch, {IMAGE_SIDE**2}], not {tuple(reconstruction.shape)}; "
            "keras.layers.Flatten() may end it"
        )

    reconstruction_loss = reconstruction_loss_function(model.reconstruction_loss)
    losses = reconstruction_loss(x, tf.cast(reconstruction, x.dtype))
    if losses.shape != (2,):
        raise ValueError(
            f"the reconstruction loss must be one number an image, [batch], not {losses.shape}"
        )
    if not (math.isfinite(model.kl_weight) and model.kl_weight >= 0):
        raise ValueError(f"kl_weight must be a number of at least 0, not {model.kl_weight}")

    takes_logits = {"squared-error": False, "cross-entropy": True}
    if takes_logits.get(model.reconstruction_loss, model.decodes_logits) != model.decodes_logits:
        raise ValueError(
            f"from_logits={model.from_logits} contradicts {model.reconstruction_loss}: leave it "
            "out, or give a function as reconstruction_loss"
        )
    if model.decodes_logits:
        far_codes = 10 * np.random.default_rng(0).standard_normal((16, z_mean.shape[1]))
        outputs = model.decoder(far_codes.astype(np.float32), training=False)
        outputs = tf.cast(outputs, tf.float32).numpy()
        if outputs.min() >= 0 and outputs.max() <= 1 and outputs.any():
            raise ValueError(
                "the decoder's outputs are taken as logits, but they lie in [0, 1]: end it "
                "without a sigmoid"
            )
    return z_mean.shape[1]


# ---- Loss ----------------------------------------------------------------------------------------
# In nats, the unit of information for natural logarithms: a nat is 1 / ln 2 = 1.44 bits.


def kl_divergence(z_mean, z_log_sigma_sq):
    """Return KL(N(z_mean, sigma^2) || N(0, I)) of each image, [batch, 2] twice -> [batch], in nats.

    Kingma & Welling (2013), Appendix B.
    """
    sigma_sq = tf.exp(z_log_sigma_sq)
    return -0.5 * tf.reduce_sum(1.0 + z_log_sigma_sq - tf.square(z_mean) - sigma_sq, axis=-1)


def squared_error(x, reconstruction):
    """Return half the squared error summed over each image, [batch, 784] twice -> [batch], in nats.

    Up to a constant, it is the negative log-likelihood of a Gaussian with variance 1. Its minimum
    is the mean of all images that share a latent code, so reconstructions are blurred.
    """
    return 0.5 * tf.reduce_sum(tf.square(reconstruction - x), axis=-1)


def cross_entropy(x, logits):
    """Return the cross-entropy summed over each image, [batch, 784] twice -> [batch], in nats.

    It is the negative log-likelihood of a Bernoulli distribution with p = sigmoid(logits) for each
    pixel.
    """
    pixel_losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
    return tf.reduce_sum(pixel_losses, axis=-1)


RECONSTRUCTION_LOSSES = {"squared-error": squared_error, "cross-entropy": cross_entropy}


def reconstruction_loss_function(loss):
    """Return the function of a reconstruction loss, which is a name or the function itself."""
    if callable(loss):
        return loss
    if loss not in RECONSTRUCTION_LOSSES:
        names = ", ".join(RECONSTRUCTION_LOSSES)
        raise ValueError(f"reconstruction_loss must be one of {names}, or a function, not {loss!r}")
    return RECONSTRUCTION_LOSSES[loss]


def is_registered(function):
    """Return whether `function` is registered by keras.saving.register_keras_serializable."""
    return any(function is known for known in keras.saving.get_custom_objects().values())


class Losses(NamedTuple):
    """Means over images, in nats per image: loss = reconstruction + kl_weight * kl."""

    loss: float
    reconstruction: float
    kl: float


def mean_losses(reconstruction, kl, kl_weight):
    """Return the `Losses` of a batch; the means over the images are taken here and nowhere else."""
    # [1] The listing adds the squared error of the whole batch to the KL divergence of each image.
    # So its KL divergence weighs 1/128 of what the text says, and the latent codes spread far
    # beyond N(0, I).
    reconstruction = tf.reduce_mean(reconstruction)
    kl = tf.reduce_mean(kl)
    return Losses(reconstruction + kl_weight * kl, reconstruction, kl)


# ---- Training ------------------------------------------------------------------------------------


def adam(learning_rate=LEARNING_RATE):
    """Return Adam with the original's constants.

    `epsilon` keeps the steps small for weights whose gradients are almost zero, such as those of
    pixels that are nearly always black. 1e-8 is TensorFlow 1's default; Keras' own is 1e-7.
    """
    return keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8)


def make_rng(rng=None):
    """Return a NumPy generator: `rng` itself, or one with `rng` as its seed.

    Without `rng`, the seed is drawn from the generator that keras.utils.set_random_seed seeds.
    """
    return np.random.default_rng(np.random.randint(2**31) if rng is None else rng)


def train_epoch(model, x_train, order, epsilon, kl_weight):
    """Train for an epoch; return the mean `Losses` over its steps as one tensor, [3].

    `x_train` are pixels [count, 784]; `order` [steps, batch] holds the indices of each step's
    images, and `epsilon` [steps, batch, 2] the noise of their latent codes.
    """
    steps = len(order)
    means = tf.zeros(len(Losses._fields), x_train.dtype)
    for step in tf.range(steps):
        x = tf.gather(x_train, order[step])
        with tf.GradientTape() as tape:
            reconstruction, kl = model.loss_terms(x, epsilon[step], training=True)
            losses = mean_losses(reconstruction, kl, kl_weight)
            # The losses that layers add, as regularizers do, are minimised but not reported.
            objective = losses.loss + sum(model.losses)
            # An optimizer with loss scaling, as for mixed_float16, scales the gradients back.
            objective = model.optimizer.scale_loss(objective)
        gradients = tape.gradient(objective, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        means += tf.stack(losses) / steps
    return means


def validate(model, x_validation, epsilon, kl_weight):
    """Return the mean `Losses` of pixels [count, 784] as one tensor, [3]."""
    return tf.stack(mean_losses(*model.loss_terms(x_validation, epsilon), kl_weight))


def prepare_model(model):
    """Check and build every part of `model`, and compile it where it is not yet.

    Raises ValueError for parts that do not fit together, and for a model that was compiled with
    what `train` would ignore.
    """
    model.latent_size = check_model(model)
    x, epsilon = tf.zeros((2, IMAGE_SIDE**2)), tf.zeros((2, model.latent_size))
    reconstruction, kl = model.loss_terms(x, epsilon)  # builds the layers that a subclass adds
    if not reconstruction.shape == kl.shape == (2,):
        raise ValueError(
            "loss_terms must return one number an image, [batch], not "
            f"{reconstruction.shape} and {kl.shape}"
        )
    if not model.compiled:
        model.compile(optimizer=adam(), jit_compile=True)
    config = model.get_compile_config()
    unused = ("loss", "loss_weights", "metrics", "weighted_metrics")
    given = [name for name in unused if config.get(name) is not None]
    if given:
        raise ValueError(
            f"`train` would ignore {', '.join(given)}: call compile(optimizer=..., "
            "jit_compile=...) without; the loss is that of `loss_terms`"
        )
    if model.optimizer is None:
        raise ValueError("the model is compiled without an optimizer")
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def xla_available():
    """Return whether XLA can compile here; print a note where it cannot."""
    try:
        tf.function(functools.partial(tf.exp), jit_compile=True)(tf.zeros([1]))
    except tf.errors.OpError as error:
        note(f"XLA is unavailable here ({reason(error)}); training without it, more slowly.")
        return False
    return True


def train(
    model, x_train, x_validation, *, epochs=EPOCHS, batch_size=BATCH_SIZE, callbacks=(), rng=None
):
    """Train a `VAE` on images (see `check_images`) and return its keras.callbacks.History.

    Optimizer and compilation are those of `model.compile(optimizer=..., jit_compile=...)`. A model
    that is not compiled gets `adam()` and XLA. A second call continues with the optimizer's state.
    Nothing is printed without a callback such as `EpochTable()`.

    `callbacks` are Keras callbacks, called at the begin and end of the training, of each epoch and
    of each validation, but not for batches: an epoch is one compiled function. They may set
    model.kl_weight, the learning rate, weights and model.stop_training. Other changes of the model
    take effect in the next call of `train`. BackupAndRestore does not work, because it needs a
    private attribute of `fit`: all epochs would be trained again.

    The logs are the means over the epoch, while the weights still change, of `loss`,
    `reconstruction` and `kl`, in nats per image; the epoch's `kl_weight`, which is
    model.kl_weight after on_epoch_begin; and `val_loss`, `val_reconstruction`, `val_kl` of the
    validation images. `rng`: see `make_rng`.

    Raises ValueError for images that `check_images` rejects, for a batch size below 1 or above the
    number of images, and for a model that does not fit together or was compiled with a loss or
    metrics, which would be ignored; FloatingPointError when a loss is not finite.
    """
    x_train = check_images(x_train)
    x_validation = check_images(x_validation)
    if not 1 <= batch_size <= len(x_train):
        raise ValueError(f"a batch of {batch_size} from {len(x_train)} training images")
    prepare_model(model)
    rng = make_rng(rng)
    validation_epsilon = rng.standard_normal((len(x_validation), model.latent_size), np.float32)
    steps = len(x_train) // batch_size  # [5] the incomplete last batch is dropped

    # The bytes are converted once; compiled, that needs no temporary copies. TensorFlow counts how
    # often a function is traced, and would warn at the fifth training; a new partial counts anew.
    xla = model.jit_compile and xla_available()
    x_train = tf.function(functools.partial(to_pixels), jit_compile=xla)(x_train)
    x_validation = to_pixels(x_validation)
    run_epoch = functools.partial(train_epoch, model)
    run_validation = functools.partial(validate, model)
    if not model.run_eagerly:
        run_epoch = tf.function(run_epoch, jit_compile=xla)
        run_validation = tf.function(run_validation)

    settings = {"epochs": epochs, "steps": steps, "verbose": 2}  # read by ProgbarLogger and others
    callbacks = keras.callbacks.CallbackList(callbacks, add_history=True, model=model, **settings)
    model.stop_training = False
    callbacks.on_train_begin()
    logs = {}
    for epoch in range(epochs):
        callbacks.on_epoch_begin(epoch)
        kl_weight = tf.cast(model.kl_weight, x_train.dtype)  # a number would be compiled in
        order = rng.permutation(len(x_train))[: steps * batch_size].reshape(steps, batch_size)
        epsilon = rng.standard_normal((steps, batch_size, model.latent_size), np.float32)
        losses = run_epoch(x_train, tf.constant(order, tf.int32), tf.constant(epsilon), kl_weight)
        logs = Losses(*losses.numpy().tolist())._asdict()
        logs["kl_weight"] = float(model.kl_weight)

        callbacks.on_test_begin()
        losses = run_validation(x_validation, validation_epsilon, kl_weight)
        validation_logs = Losses(*losses.numpy().tolist())._asdict()
        callbacks.on_test_end(validation_logs)
        logs |= {f"val_{name}": value for name, value in validation_logs.items()}

        if not all(math.isfinite(value) for value in logs.values()):
            raise FloatingPointError(
                f"the loss is no longer finite in epoch {epoch + 1}; try a smaller learning rate"
            )
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    if logs:  # for optimizers that average the weights
        model.optimizer.finalize_variable_values(model.trainable_variables)
    callbacks.on_train_end(logs)
    return model.history


class EpochTable(keras.callbacks.Callback):
    """A Keras callback that prints the losses of each epoch as a line of a table."""

    def on_train_begin(self, logs=None):
        """Print the heading."""
        say("       training                        validation")
        say("epoch      loss  reconstruction    KL        loss  reconstruction    KL")

    def on_epoch_end(self, epoch, logs=None):
        """Print the means over the epoch, and the losses of the validation images after it."""
        line = "{:>5}{loss:>10.2f}{reconstruction:>16.2f}{kl:>6.2f}"
        line += "{val_loss:>12.2f}{val_reconstruction:>16.2f}{val_kl:>6.2f}"
        say(line.format(epoch + 1, **logs))  # [6]


# ---- Evaluation ----------------------------------------------------------------------------------


def batches(count, size=1000):
    """Return slices of `size` that make up `count` images: they bound the memory."""
    return [slice(start, start + size) for start in range(0, count, size)]


def image_losses(model, images, epsilon=None):
    """Return the reconstruction loss and the KL divergence of each image, NumPy [count], in nats.

    `images`: see `check_images`. `epsilon` [count, 2] is the noise of their latent codes, by
    default a new sample of N(0, I) from `make_rng()`. With 0 the latent codes are z_mean; these
    losses are lower and not the negative ELBO. Raises ValueError for an `epsilon` of another shape.
    """
    images = check_images(images)
    shape = (len(images), model.latent_size)
    if epsilon is None:
        epsilon = make_rng().standard_normal(shape, np.float32)
    epsilon = np.asarray(epsilon, np.float32)
    if epsilon.shape not in ((), shape):
        raise ValueError(f"epsilon {epsilon.shape} cannot be broadcast; it must be 0 or {shape}")
    epsilon = np.broadcast_to(epsilon, shape)
    terms = [
        model.loss_terms(to_pixels(images[batch]), epsilon[batch]) for batch in batches(len(images))
    ]
    reconstruction, kl = zip(*terms, strict=True)
    return np.concatenate(reconstruction), np.concatenate(kl)


def evaluate(model, images, epsilon=None):
    """Return the mean `Losses` of images, as floats; for the arguments see `image_losses`."""
    losses = mean_losses(*image_losses(model, images, epsilon), model.kl_weight)
    return Losses(*(float(mean) for mean in losses))


def encode(model, images):
    """Encode images (see `check_images`) -> z_mean and z_log_sigma_sq, NumPy float32 [count, 2]."""
    images = check_images(images)
    codes = [
        model.encoder(to_pixels(images[batch]), training=False) for batch in batches(len(images))
    ]
    z_mean, z_log_sigma_sq = zip(*codes, strict=True)
    return tuple(np.concatenate(parts).astype(np.float32) for parts in (z_mean, z_log_sigma_sq))


def knn_accuracy(codes, labels, test_codes, test_labels):
    """Return the k-NN accuracy, k = NEIGHBOURS, of latent codes [count, 2] and their labels.

    It is the share of test codes whose label is the most frequent one of the k nearest `codes`.
    Raises ValueError for labels that `check_labels` rejects.
    """
    labels = check_labels(labels, len(codes))
    test_labels = check_labels(test_labels, len(test_codes))
    count = min(NEIGHBOURS, len(codes))
    ranks = range(1, count + 1)  # as a list, because a bare 1 would drop the axis of the neighbours
    _, nearest = cKDTree(codes).query(test_codes, ranks)
    classes = np.unique(labels)
    votes = [np.sum(labels[nearest] == label, axis=1) for label in classes]
    winners = classes[np.argmax(votes, axis=0)]
    return float(np.mean(winners == test_labels))


# ---- Figures -------------------------------------------------------------------------------------
# Each returns a matplotlib Figure outside pyplot: a notebook displays it, elsewhere call its
# `savefig`; plt.show() does not know it. It is legible in every matplotlib style.


def show_pixels(axes, pixels, **options):
    """Show pixels [rows, columns] in [0, 1] in fixed grey levels, or raise ValueError."""
    if not (np.min(pixels) >= 0 and np.max(pixels) <= 1):
        raise ValueError("pixels must be in [0, 1]: see `to_pixels` and `VAE.decode_pixels`")
    axes.grid(False)
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1}  # [4]
    axes.imshow(pixels, origin="upper", interpolation="nearest", **grey, **options)


def tile_images(pixels, side):
    """Tile images, pixels [side * side, 784], row by row -> [side * IMAGE_SIDE, side * IMAGE_SIDE].

    Raises ValueError for another shape.
    """
    expected = (side**2, IMAGE_SIDE**2)
    if np.shape(pixels) != expected:
        raise ValueError(f"pixels must be {list(expected)}, not {list(np.shape(pixels))}")
    tiles = np.reshape(pixels, (side, side, IMAGE_SIDE, IMAGE_SIDE))
    return tiles.transpose(0, 2, 1, 3).reshape(side * IMAGE_SIDE, side * IMAGE_SIDE)


def reconstructions_figure(x, reconstruction):
    """Draw images `x` [count, 784] over their reconstructions [count, 784], pixels in [0, 1].

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
    """Return a colour, "#rrggbb", for each of `count` classes."""
    if count <= len(CLASS_COLOURS):
        return CLASS_COLOURS[:count]
    spread = matplotlib.colormaps["turbo"](np.linspace(0, 1, count))
    return tuple(colors.to_hex(colour) for colour in spread)


def latent_scatter_figure(z, labels, *, classes=None):
    """Draw latent codes `z` [count, 2], one colour for each class of `labels` [count].

    Figure 10-19 of the original. `classes`: all classes of the data set, so that colours stay the
    same where `labels` lack some. The dashed square is the region that the manifold shows. Raises
    ValueError for other shapes, and for labels that `check_labels` rejects or `classes` lack.
    """
    z = np.asarray(z)
    if z.ndim != 2 or z.shape[1] != 2:
        raise ValueError(f"latent codes must be [count, 2] to be drawn, not {list(z.shape)}")
    labels = check_labels(labels, len(z))
    classes = np.unique(labels if classes is None else classes)
    if not np.isin(labels, classes).all():
        raise ValueError("classes must hold every label")
    class_indices = np.searchsorted(classes, labels)
    edge = MANIFOLD_QUANTILES[-1]
    limit = 1.05 * max(np.abs(z).max(), edge)
    figure = Figure(figsize=(6.6, 5.8), layout="compressed")
    axes = figure.subplots(subplot_kw={"aspect": "equal"})
    axes.grid(False)
    axes.set(xlabel="$z_1$", ylabel="$z_2$", xlim=(-limit, limit), ylim=(-limit, limit))
    points = axes.scatter(
        *z.T,
        c=class_indices,
        cmap=colors.ListedColormap(class_colours(len(classes))),
        norm=colors.BoundaryNorm(np.arange(len(classes) + 1) - 0.5, len(classes)),
        s=4,
        linewidths=0,
    )
    bar = figure.colorbar(points, ax=axes, label="class")
    bar.set_ticks(range(len(classes)), labels=classes)
    bar.ax.tick_params(which="both", length=0)
    bar.ax.grid(False)

    background = axes.get_facecolor()
    is_light = np.dot(colors.to_rgb(background), (0.3, 0.6, 0.1)) > 0.5
    ink = "black" if is_light else "white"
    corner, side = (-edge, -edge), 2 * edge
    line = {"edgecolor": ink, "linestyle": "--", "linewidth": 1.0}
    axes.add_patch(patches.Rectangle(corner, side, side, fill=False, **line))
    halo = patheffects.withStroke(linewidth=3, foreground=background)
    style = {"color": ink, "fontsize": 12, "fontweight": "bold", "path_effects": [halo]}
    for index, (x, y) in class_name_places(z, class_indices, limit).items():
        axes.text(x, y, classes[index], ha="center", va="center", **style)
    return figure


def class_name_places(z, class_indices, limit):
    """Return a place for the name of each class, by class index, on axes from -limit to limit.

    It is the median of the class' latent codes, moved where two names would overlap.
    """
    distance = limit / 9  # that names of up to two digits need
    places = {}
    for index in np.unique(class_indices):
        members = z[class_indices == index]
        places[index] = np.median(members, axis=0)
        if len(members) == 1:
            places[index][1] += limit / 20  # above the only code, not on it
    for _ in range(100):
        for first, second in itertools.combinations(places, 2):
            apart = places[second] - places[first]
            length = np.hypot(*apart)
            if length < distance:
                direction = apart / length if length > 0 else np.array([1.0, 0.0])
                step = (distance - length) / 2 * direction
                places[first] = places[first] - step
                places[second] = places[second] + step
    return places


def manifold_codes():
    """Return the latent codes of the manifold's digits, [225, 2]: z_1 runs fastest, both ascend."""
    z_1, z_2 = np.meshgrid(MANIFOLD_QUANTILES, MANIFOLD_QUANTILES)
    return np.stack([z_1.ravel(), z_2.ravel()], axis=-1).astype(np.float32)


def manifold_figure(pixels):
    """Draw the decoded `manifold_codes`, pixels [225, 784] in [0, 1], z_1 to the right, z_2 up.

    Figure 10-20 of the original.
    """
    side = len(MANIFOLD_QUANTILES)
    rows = tile_images(pixels, side).reshape(side, IMAGE_SIDE, -1)
    mosaic = rows[::-1].reshape(side * IMAGE_SIDE, -1)  # [3] the highest z_2 is at the top
    figure = Figure(figsize=(6.6, 6.6), layout="compressed")
    axes = figure.subplots(subplot_kw={"xlabel": "$z_1$", "ylabel": "$z_2$"})
    show_pixels(axes, mosaic, extent=(0, side, 0, side))
    centres = np.arange(side) + 0.5
    quantiles = [f"{value:.2f}" for value in MANIFOLD_QUANTILES.round(2) + 0.0]  # no "-0.00"
    axes.set_xticks(centres, quantiles, fontsize=8)
    axes.set_yticks(centres, quantiles, fontsize=8)
    return figure


def samples_figure(pixels):
    """Draw 8 x 8 digits decoded from samples z ~ N(0, I), pixels [64, 784] in [0, 1]."""
    figure = Figure(figsize=(4.0, 4.0), layout="compressed")
    axes = figure.subplots(subplot_kw={"xticks": [], "yticks": []})
    show_pixels(axes, tile_images(pixels, 8))
    return figure


def training_curves_figure(history):
    """Draw the loss and its parts over the epochs of a History, or of its dict of lists."""
    logs = getattr(history, "history", history)
    epochs = range(1, len(logs["loss"]) + 1)
    figure = Figure(figsize=(9.0, 2.9), layout="compressed")
    titles = ("loss", "reconstruction loss", "KL divergence")
    for axes, name, title in zip(figure.subplots(1, 3), Losses._fields, titles, strict=True):
        axes.plot(epochs, logs[name], ".-", markersize=3, label="training")
        axes.plot(epochs, logs[f"val_{name}"], ".--", markersize=3, label="validation")
        axes.set(title=title, xlabel="epoch", ylabel="nats per image")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    return figure


# ---- Data ----------------------------------------------------------------------------------------

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
SERVER_PATIENCE = 5  # seconds without an answer or data from the server
BUNDLED_DIGITS = Path(__file__).resolve().parent / "data" / "mnist_5k.npz"
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DATA_FORMS = "an .npz file in Keras' layout or the directory of the four IDX files"


def check_images(images):
    """Return images as bytes, uint8 [count, 784], or raise ValueError.

    `images` are whole numbers from 0 to 255 of any type, [count, 28, 28], [count, 28, 28, 1] or
    [count, 784], or a single image [28, 28] or [784]. If none is above 1, they are rejected,
    because they may be pixels in [0, 1].
    """
    images = np.asarray(images)
    side, size = IMAGE_SIDE, IMAGE_SIDE**2
    shape = images.shape
    has_shape = shape[1:] in ((side, side), (side, side, 1), (size,)) or shape in (
        (side, side),
        (size,),
    )
    is_good = (
        images.dtype.kind in "uif"
        and images.size > 0
        and has_shape
        and images.min() >= 0
        and 1 < images.max() <= 255
        and (images.dtype.kind in "ui" or np.array_equal(images, np.floor(images)))
    )
    if not is_good:
        found = f"{images.dtype} of shape {shape}"
        if images.dtype.kind in "uif" and images.size > 0:
            found += f" from {images.min():g} to {images.max():g}"
        raise ValueError(
            f"images are {found}; they must be whole numbers from 0 to 255, not all 0 or 1, with "
            f"{side} x {side} = {size} an image"
        )
    return images.astype(np.uint8, copy=False).reshape(-1, size)


def check_labels(labels, count):
    """Return the labels of `count` images or codes as whole numbers [count], or raise ValueError.

    `labels` are of any integer type, [count] or [count, 1], one for each; not one-hot.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "ui" or labels.shape not in ((count,), (count, 1)):
        raise ValueError(
            f"labels are {labels.dtype} of shape {labels.shape}; they must be one whole number for "
            f"each of {count:,}, not one-hot"
        )
    return labels.ravel()


def to_pixels(images):
    """Convert bytes as `check_images` returns them, [count, 784], to pixels in [0, 1].

    Their type is keras.config.floatx(), float32 by default. Raises TypeError for other than uint8.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.uint8:
        raise TypeError(f"images must be uint8, not {images.dtype.name}: see `check_images`")
    return tf.cast(images, keras.config.floatx()) / 255


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
    """Return the training, validation and test images with their labels as `Data`.

    `path` is an .npz file in Keras' layout, or a directory with the four IDX files of MNIST or of
    a data set like it. Without `path`, MNIST is read from Keras' cache, downloaded once; where the
    download fails, a note says so and the bundled digits are used. The first twelfth of the
    training images is the validation set. Raises InputError for files without such data.
    """
    if path is None:
        name, path = find_mnist()
    else:
        name = str(path)
        path = Path(os.path.expanduser(path))
        if not path.exists():
            raise InputError(
                f"{path}: cannot be read (no such file or directory); give {DATA_FORMS}"
            )
    if isinstance(path, Path) and path.is_dir():
        x, y, x_test, y_test = read_idx_directory(path)
    else:
        x, y, x_test, y_test = read_npz(path)
    x, y = check_set(x, y, f"{path}, training set")
    x_test, y_test = check_set(x_test, y_test, f"{path}, test set")
    held_out = max(1, len(x) // 12)
    if len(x) == held_out:
        raise InputError(f"{path}, training set: holds one image; give at least two")
    classes = np.union1d(y, y_test)
    lacking = np.setdiff1d(classes, y[:held_out])
    if len(lacking) > 0 and held_out >= 10 * len(classes):
        note(
            f"the validation set, the first {held_out:,} training images, has no image of "
            f"{len(lacking)} of {len(classes)} classes; shuffle the training set of {path}."
        )
    return Data(
        name=name,
        x_train=x[held_out:],
        y_train=y[held_out:],
        x_validation=x[:held_out],
        y_validation=y[:held_out],
        x_test=x_test,
        y_test=y_test,
        classes=classes,
    )


def check_set(images, labels, source):
    """Return images uint8 [count, 784] and labels [count], or raise InputError."""
    try:
        images = check_images(images)
        return images, check_labels(labels, len(images))
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error


def find_mnist():
    """Return the name and the .npz file of MNIST or, where it is unavailable, of the bundled set.

    The file is a path, or an open file where the cache cannot be written.
    """
    keras_home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    if not os.access(keras_home, os.W_OK):  # as Keras itself does
        keras_home = Path(tempfile.gettempdir()) / ".keras"
    cached = keras_home / "datasets" / "mnist.npz"
    if cached.is_file() and is_mnist(cached.read_bytes()):
        return "MNIST", cached
    try:
        content = download_mnist()
    except (TimeoutError, multiprocessing.TimeoutError):
        failure = f"no answer in {SERVER_PATIENCE} s"
    except Exception as error:  # whatever sockets, TLS, HTTP and proxies make of a bad connection
        failure = reason(error)
    else:
        if is_mnist(content):
            failures = write_files(cached.parent, {cached.name: content})
            for why in failures.values():
                note(f"{cached} cannot be written ({why}): the next run downloads MNIST again.")
            return "MNIST", io.BytesIO(content) if failures else cached
        failure = "the file is corrupted: its SHA-256 is wrong"
    failure = f"MNIST could not be downloaded ({failure})"
    remedy = "give its mnist.npz or the directory of its four IDX files with --data"
    if not BUNDLED_DIGITS.is_file():
        raise InputError(f"{failure} and {BUNDLED_DIGITS} is missing; {remedy}")
    note(f"{failure}; using the 5,000 bundled digits. For the full set, {remedy}.")
    return "MNIST, 5,000 bundled digits", BUNDLED_DIGITS


def is_mnist(content):
    """Return whether these bytes are Keras' mnist.npz."""
    return hashlib.sha256(content).hexdigest() == MNIST_SHA256


def download_mnist():
    """Return the bytes at MNIST_URL."""
    # In a thread: to look up a name, or to try a server's many addresses, outlasts any time-out.
    with multiprocessing.pool.ThreadPool(1) as thread:
        answer = thread.apply_async(urllib.request.urlopen, [MNIST_URL, None, SERVER_PATIENCE])
        with answer.get(SERVER_PATIENCE) as response:
            say("downloading MNIST, 11 MB")
            return response.read()


def read_npz(file):
    """Return x_train, y_train, x_test, y_test from an .npz file, a path or an open file."""
    try:
        if not zipfile.is_zipfile(file):  # NumPy would advise to unpickle it
            raise ValueError("it is not a complete .npz file")
        with np.load(file, allow_pickle=False) as archive:
            names = archive.files
            arrays = [archive[key] for key in NPZ_KEYS if key in names]
    except Exception as error:  # whatever zip, zlib and NumPy make of a damaged file
        raise InputError(f"{file}: cannot be read ({reason(error)}); give {DATA_FORMS}") from error
    if len(arrays) < len(NPZ_KEYS):
        raise InputError(f"{file}: holds {', '.join(names)}; it must hold {', '.join(NPZ_KEYS)}")
    return arrays


def read_idx_directory(directory):
    """Return x_train, y_train, x_test, y_test from the four IDX files in `directory`.

    They may be compressed. Kaggle names them with a dot, torchvision puts them into NAME/raw.
    """
    folders = [directory, *directory.glob("raw"), *directory.glob("*/raw")]
    sets = sorted(folder for folder in folders if any(folder.glob("t*?idx?-ubyte*")))
    if len(sets) > 1:
        found = ", ".join(map(str, sets))
        raise InputError(f"{directory}: holds several data sets; give one of {found}")
    folder = sets[0] if sets else directory
    arrays = []
    for name in IDX_NAMES:
        pattern = name.replace("-idx", "?idx") + "*"
        files = sorted(path for path in folder.glob(pattern) if path.is_file())
        if not files:
            held = sorted(path.name for path in folder.iterdir())[:20]
            raise InputError(
                f"{folder}: has no {name}; give all four IDX files, plain or .gz; it holds {held}"
            )
        arrays.append(read_idx(files[0]))  # the plain file before the compressed one
    return arrays


def read_idx(path):
    """Return the uint8 array of an IDX file: 0, 0, 8, number of dimensions, dimensions, values."""
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            content = file.read()
        if content[:3] != b"\0\0\x08" or len(content) < 4:
            raise ValueError("it has no IDX header for unsigned bytes")
        dimensions = content[3]
        shape = np.frombuffer(content, ">u4", dimensions, offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except Exception as error:  # whatever gzip, zlib and NumPy make of a damaged file
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error


# ---- Messages and files --------------------------------------------------------------------------


class InputError(Exception):
    """A fault that the user can mend; its text is one line that says how."""


def say(text, file=None):
    """Print a line; what the console cannot encode is escaped, and without a reader it is lost."""
    file = file or sys.stdout
    with contextlib.suppress(OSError, ValueError):
        try:
            print(text, file=file, flush=True)
        except UnicodeEncodeError:
            print(text.encode("ascii", "backslashreplace").decode(), file=file, flush=True)


def note(text):
    """Print on standard error what differs from an ordinary run."""
    say(f"note: {text}", sys.stderr)


def reason(error):
    """Return what went wrong, for the user, in one line."""
    text = str(getattr(error, "strerror", None) or error)
    return " ".join(text.split()).strip("<>")


def write_files(directory, contents):
    """Write files into `directory`, print their paths, and return why others failed, by file name.

    `contents`: bytes, or functions that write to a given path, by file name. Each file is written
    in a folder beside its place and then moved there, so it is the old one or the new one, whole.
    """
    failures = {}
    for name, content in contents.items():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=directory) as unfinished:
                path = Path(unfinished, name)
                if callable(content):
                    content(path)
                else:
                    path.write_bytes(content)
                os.replace(path, directory / name)
            say(f"wrote {directory / name}")
        except OSError as error:
            failures[name] = reason(error)
    return failures


# ---- Program -------------------------------------------------------------------------------------

OUTPUT_FILES = ("vae.keras", "metrics.json", "history.csv", "reconstructions.png", "samples.png")
OUTPUT_FILES += ("training_curves.png", "latent_scatter.png", "manifold.png", "explorer.html")
EXPLORER = Path(__file__).resolve().parent / "explorer"


def parse_arguments(argv=None):
    """Return the options; wrong ones end the program with one line and status 2."""
    parser = argparse.ArgumentParser(
        prog="vae_mnist.py",
        usage=argparse.SUPPRESS,  # or it would precede every error
        description="A variational autoencoder (VAE) for MNIST with a 2-D latent space.",
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
        help="loss of a reconstruction, summed over the pixels",
    )
    add("--kl-weight", type=float, default=KL_WEIGHT, help="weight of the KL divergence")
    add("--seed", type=int, default=0, help="the same seed gives the same numbers and pictures")
    add("--output-dir", default="outputs", help="directory for the files that a run writes")
    options = parser.parse_args(argv)
    options.output_dir = Path(os.path.expanduser(options.output_dir))
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


def check_saving(model):
    """Raise InputError where Keras cannot save and load the model or its optimizer."""
    try:
        config = keras.saving.serialize_keras_object(model)
        keras.saving.deserialize_keras_object(config)
    except Exception as error:  # whatever a layer's get_config and from_config raise
        raise InputError(
            f"Keras cannot save and load this model ({reason(error)[:200]}); register classes and "
            "functions of your own by @keras.saving.register_keras_serializable()"
        ) from error


def train_model(options, data, rng):
    """Return a trained model, its logs of each epoch, and the explorer.Recorder or None."""
    keras.utils.set_random_seed(options.seed)
    model = VAE(reconstruction_loss=options.reconstruction_loss, kl_weight=options.kl_weight)
    model.compile(optimizer=adam(options.learning_rate), jit_compile=True)
    check_saving(model)
    rows = []  # with the columns that other callbacks add to the logs
    keep_row = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: rows.append({"epoch": epoch + 1} | logs)
    )
    callbacks = [EpochTable(), keep_row]
    recorder = None
    if explorer := find_explorer():
        recorder = explorer.Recorder(data.x_test[:RECORDED_IMAGES], data.y_test[:RECORDED_IMAGES])
        callbacks.append(recorder)
    train(
        model,
        data.x_train,
        data.x_validation,
        epochs=options.epochs,
        batch_size=options.batch_size,
        callbacks=callbacks,
        rng=rng,
    )
    return model, rows, recorder


def assess_model(model, data, rng):
    """Print the results on the test images; return their sampled latent codes and the results."""
    epsilon = rng.standard_normal((len(data.x_test), model.latent_size), np.float32)
    test = evaluate(model, data.x_test, epsilon)
    z_mean, z_log_sigma_sq = encode(model, data.x_test)
    train_codes, _ = encode(model, data.x_train)
    accuracy = knn_accuracy(train_codes, data.y_train, z_mean, data.y_test)
    weight = "" if model.kl_weight == 1 else f"{model.kl_weight:g} x "
    say(
        f"test loss {test.loss:.4f} = {test.reconstruction:.4f} reconstruction "
        f"+ {weight}{test.kl:.4f} KL"
    )
    say(f"k-NN accuracy {accuracy:.4f} (k = {NEIGHBOURS}, training to test codes)")
    if test.kl < COLLAPSED_KL:
        note(
            f"posterior collapse (KL below {COLLAPSED_KL} nats): every image has the same "
            "reconstruction; try another --seed or a smaller --kl-weight."
        )
    z = sample_latent(z_mean, z_log_sigma_sq, epsilon).numpy()
    return z, test, accuracy


def write_history(rows, path):
    """Write the logs of each epoch to a CSV file; a column that an epoch lacks is left empty."""
    columns = ["epoch", *Losses._fields, "kl_weight", *(f"val_{name}" for name in Losses._fields)]
    columns += sorted({column for row in rows for column in row} - set(columns))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw_figures(model, data, z, samples_rng):
    """Return the figures by file name; `z` are sampled latent codes of the test images."""
    x, reconstruction = to_pixels(data.x_test[:10]), model.decode_pixels(z[:10])
    samples = samples_rng.standard_normal((64, model.latent_size))
    figures = {
        "reconstructions.png": reconstructions_figure(x, reconstruction),
        "samples.png": samples_figure(model.decode_pixels(samples)),
        "training_curves.png": training_curves_figure(model.history),
    }
    if model.latent_size == 2:
        scatter = latent_scatter_figure(z, data.y_test, classes=data.classes)
        figures["latent_scatter.png"] = scatter
        figures["manifold.png"] = manifold_figure(model.decode_pixels(manifold_codes()))
    else:
        note(
            f"a latent space of {model.latent_size} dimensions cannot be drawn: "
            "latent_scatter.png and manifold.png are not written."
        )
    return figures


def find_explorer():
    """Return the package `explorer` of the folder beside this file, or None where it is not whole.

    The folder may be missing or empty, and then Python may find another package of that name.
    """
    if not EXPLORER.is_dir():
        return None
    try:
        import explorer

        whole = hasattr(explorer, "Recorder") and hasattr(explorer, "make_page")
    except ImportError:
        return None
    return explorer if whole else None


def explorer_page(model, data, recorder=None, losses=None):
    """Return the page to explore the latent space, bytes of HTML, made by the folder `explorer`.

    `recorder`: the explorer.Recorder of the training; `losses`: the `Losses` of the test images.
    Raises explorer.PageError for a model that the page cannot run, for example one whose latent
    space has not two dimensions.
    """
    import explorer

    if losses is None:  # evaluated here, so that `make_page` notices another `to_pixels`
        epsilon = make_rng(0).standard_normal((len(data.x_test), model.latent_size), np.float32)
        losses = evaluate(model, data.x_test, epsilon)
    data = data._replace(name=last_name(data.name))
    colours = class_colours(len(data.classes))
    edge = MANIFOLD_QUANTILES[-1]
    return explorer.make_page(model, data, recorder, losses=losses, colours=colours, edge=edge)


def last_name(path):
    """Return the last name of a path: files that are passed on need not tell the folders."""
    return os.path.basename(os.path.abspath(path))


def draw_page(model, data, recorder, losses):
    """Return the `explorer_page` by its file name, or nothing, and a note says why."""
    if recorder is None:
        note(f"the folder {EXPLORER} is missing or not whole: explorer.html is not written.")
        return {}
    import explorer

    try:
        return {"explorer.html": explorer_page(model, data, recorder, losses)}
    except explorer.PageError as error:
        note(f"{error}: explorer.html is not written.")
        return {}


def run(options):
    """Train, evaluate and draw, as the options of `parse_arguments` say."""
    data = load_data(options.data)
    if len(data.x_train) < options.batch_size:
        raise InputError(
            f"{data.name}: fewer training images ({len(data.x_train):,}) than a batch; choose a "
            f"--batch-size of at most {len(data.x_train)}"
        )
    check_directory(options.output_dir)
    say(
        f"{data.name}: {len(data.x_train):,} training, {len(data.x_validation):,} validation and "
        f"{len(data.x_test):,} test images; losses in nats per image"
    )
    training_rng, test_rng, samples_rng = np.random.default_rng(options.seed).spawn(3)
    model, rows, recorder = train_model(options, data, training_rng)
    z, losses, accuracy = assess_model(model, data, test_rng)

    failures = write_files(options.output_dir, {"vae.keras": model.save})  # what took the time
    loss = model.reconstruction_loss
    metrics = {
        "data": last_name(data.name),
        "train_images": len(data.x_train),
        "test_images": len(data.x_test),
        "epochs": len(rows),
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "reconstruction_loss": getattr(loss, "__name__", loss),
        "kl_weight": float(model.kl_weight),
        "latent_size": model.latent_size,
        "parameters": model.count_params(),
        "seed": options.seed,
        "test": losses._asdict(),
        "knn_accuracy": accuracy,
    }
    numbers = {
        "metrics.json": f"{json.dumps(metrics, indent=2)}\n".encode(),
        "history.csv": functools.partial(write_history, rows),
    }
    failures |= write_files(options.output_dir, numbers)
    with matplotlib.rc_context(matplotlib.rcParamsDefault):  # whatever the user's matplotlibrc says
        figures = draw_figures(model, data, z, samples_rng)
        pictures = {
            name: functools.partial(figure.savefig, dpi=200) for name, figure in figures.items()
        }
        failures |= write_files(options.output_dir, pictures)
    page = draw_page(model, data, recorder, losses)
    failures |= write_files(options.output_dir, page)

    written = {"vae.keras", *numbers, *pictures, *page} - failures.keys()
    missing = [name for name in OUTPUT_FILES if name not in written]
    stale = [name for name in missing if (options.output_dir / name).exists()]
    if stale:
        note(f"{', '.join(stale)} in {options.output_dir}: of an earlier run, not of this model.")
    if failures:
        files = ", ".join(f"{options.output_dir / name} ({why})" for name, why in failures.items())
        raise InputError(
            f"cannot write {files}; close programs that use it, or give another --output-dir"
        )
    if page:
        say(f"open {options.output_dir / 'explorer.html'} in a browser")


def check_directory(directory):
    """Make an output directory, or raise InputError where no file can be written into it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be written ({reason(error)}); give another --output-dir"
        ) from error


def main(argv=None):
    """Run the program with the arguments `argv` and return its exit status."""
    try:
        run(parse_arguments(argv))
    except (InputError, FloatingPointError) as error:
        say(f"vae_mnist.py: error: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("vae_mnist.py: interrupted", sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    gc.freeze()  # garbage collection need not go through all that the imports have made
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()  # some operations there are not otherwise
    sys.exit(main())
