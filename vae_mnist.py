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
in six places. docs/book.md explains them; their numbers stand where the code differs:

    [1] the KL term has its full weight [4] pixels are clipped to [0, 1] for display
    [2] the initial weights are larger  [5] the incomplete last batch is dropped
    [3] the manifold has z_2 upward     [6] losses are means per image, printed every epoch

Images are bytes from 0 to 255 or pixels in [0, 1]. Losses are in nats per image.
`python vae_mnist.py --help` lists the options.
"""

import argparse
import contextlib
import csv
import functools
import gc
import gzip
import itertools
import json
import math
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

# TensorFlow and Keras read these when they are imported.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no log but fatal errors
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # or it takes the whole GPU's memory
# On a GPU too, the same seed gives the same numbers. Flags that the user has set come last and win.
os.environ["XLA_FLAGS"] = f"--xla_gpu_deterministic_ops=true {os.environ.get('XLA_FLAGS', '')}"
if __name__ == "__main__":
    # A notebook sets this for the programs that it starts; their environment may lack that backend.
    os.environ.pop("MPLBACKEND", None)

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
    backend = keras.backend.backend()
    raise ImportError(f"Keras already runs on {backend}; import vae_mnist before keras")
# On a GPU, TensorFloat-32 would round matrix products to three digits, and gain no time here.
tf.config.experimental.enable_tensor_float_32_execution(False)

# ---- Settings ------------------------------------------------------------------------------------
# Edit them here. A program that imports this file may set them before it makes a model, except for
# the first six: these are default arguments, so pass others to `VAE`, `adam` and their methods.

EPOCHS = 50
BATCH_SIZE = 128
LEARNING_RATE = 0.001
RECONSTRUCTION_LOSS = "squared-error"  # or "cross-entropy"
KL_WEIGHT = 1.0  # the beta of the beta-VAE; 1 gives the negative ELBO
EVALUATION_BATCH_SIZE = 1000  # images that are evaluated or encoded at once; it bounds the memory
HIDDEN_SIZE = 256
LATENT_SIZE = 2  # dimensions of the latent space; the scatter and the manifold need two
IMAGE_SIDE = 28  # pixels; images are square

NEIGHBOURS = 25  # k of the k-nearest-neighbour (k-NN) accuracy
COLLAPSED_KL = 0.05  # nats per image; a KL divergence below it is reported as posterior collapse
NAMED_CLASSES = 30  # the scatter names up to so many classes beside their dots
RECORDED_IMAGES = 2000  # test images whose latent codes during training the page shows

# The manifold's axes: 15 values in equal steps of probability under N(0, 1), from 5 % to 95 %, as
# in figure 4 of Kingma & Welling (2013). `ndtri` is scipy.stats.norm.ppf, faster to import.
MANIFOLD_QUANTILES = ndtri(np.linspace(0.05, 0.95, 15))
# No two of them look alike as small dots, on white or on black, and none is grey. Digits that look
# alike are neighbours in the latent space: they have the colours that differ most.
CLASS_COLOURS = ("#1a8cff", "#ff947d", "#eaaafb", "#ec0082", "#c51800")  # 0 to 4
CLASS_COLOURS += ("#bedf00", "#b88500", "#732aff", "#007942", "#24d8be")  # 5 to 9

# ---- Model ---------------------------------------------------------------------------------------


def build_encoder():
    """Return the original's encoder: pixels [batch, 784] -> z_mean, z_log_sigma_sq [batch, 2].

    The second output is the logarithm of the variance, because a layer can return any number and
    the exponential of any number is a valid, positive variance. So it has no activation: with relu
    or softplus, sigma could never fall below 1.
    """
    # [2] The listing's initial weights have a standard deviation of 0.001. With the full KL term
    # they end in posterior collapse on some seeds. Keras' default, Glorot uniform, does not.
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


# ---- Loss ----------------------------------------------------------------------------------------
# In nats, the unit of information for natural logarithms: a nat is 1 / ln 2 = 1.44 bits.


def kl_divergence(z_mean, z_log_sigma_sq):
    """Return KL(N(z_mean, sigma^2) || N(0, I)) of each image, [batch, 2] twice -> [batch], in nats.

    Kingma & Welling (2013), Appendix B. With a reconstruction loss it adds up to the negative of
    their equation (10) with one sample of z.
    """
    sigma_sq = tf.exp(z_log_sigma_sq)
    return -0.5 * tf.reduce_sum(1.0 + z_log_sigma_sq - tf.square(z_mean) - sigma_sq, axis=-1)


def squared_error(x, reconstruction):
    """Return half the squared error summed over each image, [batch, 784] twice -> [batch], in nats.

    Up to a constant, it is the negative log-likelihood of a Gaussian with variance 1. It is least
    where the reconstruction is the mean of all images that share a latent code: a blurred image.
    """
    return 0.5 * tf.reduce_sum(tf.square(reconstruction - x), axis=-1)


def cross_entropy(x, logits):
    """Return the cross-entropy summed over each image, [batch, 784] twice -> [batch], in nats.

    For black and white pixels it is the negative log-likelihood of a Bernoulli distribution with
    p = sigmoid(logits). For a grey pixel x it is the mean of that, if the pixel is drawn white with
    probability x.
    """
    pixel_losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
    return tf.reduce_sum(pixel_losses, axis=-1)


RECONSTRUCTION_LOSSES = {"squared-error": squared_error, "cross-entropy": cross_entropy}
LOSS_NAMES = ("loss", "reconstruction", "kl")  # of the metrics

# ---- Optimizer and random numbers ----------------------------------------------------------------


def adam(learning_rate=LEARNING_RATE):
    """Return Adam with the original's constants.

    `epsilon` keeps the steps small for weights whose gradients are almost zero, such as those of
    pixels that are nearly always black. 1e-8 is TensorFlow 1's default; Keras' own is 1e-7.
    """
    return keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8)


def given_or_drawn(seed):
    """Return the seed or, for None, one of the generator that keras.utils.set_random_seed seeds."""
    return np.random.randint(2**31) if seed is None else seed


def epoch_draws(seed, count, batch_size, latent_size, epoch):
    """Return what an epoch draws at random: a function of the seed and the number of the epoch.

    `order` [steps, batch], which of `count` images each step takes, and `epsilon`
    [steps, batch, latent size], the noise of their latent codes, a sample of N(0, I).
    """
    steps = count // batch_size  # [5] the incomplete last batch is dropped
    order = tf.random.experimental.stateless_shuffle(tf.range(count), [seed, 2 * epoch])
    order = tf.reshape(order[: steps * batch_size], (steps, batch_size))
    shape = (steps, batch_size, latent_size)
    return order, tf.random.stateless_normal(shape, [seed, 2 * epoch + 1])


def evaluation_noise(count, latent_size, seed):
    """Return the noise with which `VAE.evaluate` samples latent codes, N(0, I) [count, 2]."""
    return tf.random.stateless_normal((count, latent_size), [seed, -1])


# ---- The variational autoencoder -----------------------------------------------------------------


@keras.saving.register_keras_serializable(package="vae_mnist")
class VAE(keras.Model):
    """A variational autoencoder: an encoder and a decoder, trained together.

    Arguments:
        encoder: a Keras model, pixels [batch, 784] -> z_mean and z_log_sigma_sq, each
            [batch, latent size]. Default: the original's.
        decoder: a Keras model, latent codes [batch, latent size] -> reconstruction [batch, 784].
            Default: the original's.
        reconstruction_loss: "squared-error", or "cross-entropy" of a decoder that returns logits.
            For any other loss, override `loss_terms`.
        kl_weight: weight of the KL divergence, a number or a variable.

    All are saved with the model. Raises ValueError for an encoder or a decoder whose outputs have
    other shapes, or if a decoder of logits returns numbers in [0, 1] only, as after a sigmoid;
    InputError where TensorFlow runs in its TensorFlow 1 mode.
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
        if not tf.compat.v1.executing_eagerly_outside_functions():
            raise InputError(
                "TensorFlow runs in its TensorFlow 1 mode; leave out "
                "tf.compat.v1.disable_eager_execution() and disable_v2_behavior()"
            )
        if reconstruction_loss not in RECONSTRUCTION_LOSSES:
            raise ValueError(
                f"reconstruction_loss must be one of {', '.join(RECONSTRUCTION_LOSSES)}, not "
                f"{reconstruction_loss!r}; for any other loss, override VAE.loss_terms"
            )
        super().__init__(name=name, **kwargs)
        self.encoder = build_encoder() if encoder is None else encoder
        self.decoder = build_decoder() if decoder is None else decoder
        self.reconstruction_loss = reconstruction_loss
        # A number would be compiled into the training, and later changes be ignored. As a variable
        # of TensorFlow's, it is not counted among the model's parameters.
        if isinstance(kl_weight, keras.Variable):
            kl_weight = kl_weight.value
        if not isinstance(kl_weight, tf.Variable):
            kl_weight = tf.Variable(float(kl_weight), trainable=False, dtype=tf.float64)
        self.kl_variable = kl_weight
        # The training images, while `fit` runs: on a GPU they are copied once.
        shape = (None, IMAGE_SIDE**2)
        self.pixels = tf.Variable(tf.zeros((0, IMAGE_SIDE**2)), shape=shape, trainable=False)
        self.means = [keras.metrics.Mean(name) for name in LOSS_NAMES]
        self.latent_size = check_parts(self)
        self.built = True  # `check_parts` has built both parts

    @property
    def kl_weight(self):
        """Weight of the KL divergence; in a training, a change takes effect in the next epoch."""
        if tf.executing_eagerly():
            return float(self.kl_variable)
        # In a function that is compiled, a number would be compiled in.
        return tf.cast(self.kl_variable, keras.config.floatx())

    @kl_weight.setter
    def kl_weight(self, weight):
        self.kl_variable.assign(weight)

    @property
    def metrics(self):
        """Keras' metrics of an epoch or an evaluation: means per image, in nats."""
        return self.means

    def call(self, x, epsilon=0.0, training=False):
        """Encode images `x` [batch, 784], sample latent codes with `epsilon`, and decode them.

        Returns z_mean, z_log_sigma_sq [batch, 2] and reconstruction [batch, 784]. The last is the
        output of the decoder, which may be logits: `decode` returns pixels. Without `epsilon` the
        latent code is z_mean. `x` are bytes of an integer type or pixels in [0, 1].
        """
        x = to_pixels(x)
        codes = self.encoder(x, training=training)
        z_mean, z_log_sigma_sq = (tf.cast(code, x.dtype) for code in codes)
        z = sample_latent(z_mean, z_log_sigma_sq, tf.cast(epsilon, x.dtype))
        reconstruction = self.decoder(z, training=training)
        return z_mean, z_log_sigma_sq, tf.cast(reconstruction, x.dtype)

    def loss_terms(self, x, epsilon, training=False):
        """Return the reconstruction loss and the KL divergence of each image, [batch], in nats.

        `x` are pixels [batch, 784], `epsilon` [batch, 2] is a sample of N(0, I). Override this
        method to change the loss of training and evaluation. Pass `epsilon` and `training` on to
        the model: without them the latent code is z_mean, and dropout is off. A reconstruction loss
        is a sum over the pixels: with a mean, the KL divergence would weigh 784 times as much.

        The method is compiled in each `fit`. A Python number that it reads, such as an attribute of
        the model, keeps its value in all epochs: make what callbacks change a weight, by
        `add_weight(trainable=False)`. For random numbers use `keras.random` with a SeedGenerator:
        `tf.random` ignores the seed here.
        """
        z_mean, z_log_sigma_sq, reconstruction = self(x, epsilon=epsilon, training=training)
        reconstruction_loss = RECONSTRUCTION_LOSSES[self.reconstruction_loss]
        return reconstruction_loss(x, reconstruction), kl_divergence(z_mean, z_log_sigma_sq)

    def losses_of_images(self, x, epsilon, training=False):
        """Return the loss, the reconstruction loss and the KL divergence of each image, [batch].

        For the arguments see `loss_terms`.
        """
        terms = self.loss_terms(x, epsilon, training)
        reconstruction, kl = (tf.cast(term, keras.config.floatx()) for term in terms)
        # [1] The listing adds the squared error of the whole batch to the KL divergence of each
        # image. So its KL divergence weighs 1/128 of what the text says, and the latent codes
        # spread far beyond N(0, I).
        loss = reconstruction + self.kl_weight * kl
        return loss, reconstruction, kl

    def update_metrics(self, losses):
        """Add losses to Keras' metrics, which are means, and return these."""
        for metric, values in zip(self.metrics, losses, strict=True):
            metric.update_state(values)
        return self.get_metrics_result()

    # ---- Training

    def fit(
        self,
        x,
        y=None,
        *,
        validation_data=None,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        initial_epoch=0,
        seed=None,
        validation_batch_size=EVALUATION_BATCH_SIZE,
        **options,
    ):
        """Train on images (see `check_images`) and return a keras.callbacks.History.

        This is `keras.Model.fit`, compiled as one function for each epoch. A model that is not
        compiled gets compile(optimizer=adam(), jit_compile=True).

        Arguments:
            validation_data: images whose losses are evaluated after each epoch, with the same
                noise in every epoch, so that these losses compare.
            epochs, initial_epoch: as Keras', the epochs from `initial_epoch` to `epochs` are
                trained. A model saved after two epochs and trained from `initial_epoch=2` with the
                same seed becomes what it would have without the interruption.
            seed: the order of the images and the noise of their latent codes in an epoch are a
                function of `seed` and of the number of the epoch. By default it is drawn from what
                keras.utils.set_random_seed seeds.
            options: `callbacks`, `verbose` and `validation_freq`, as Keras'.

        The logs are the means over the epoch, while the weights still change, of `loss`,
        `reconstruction` and `kl`, in nats per image; the epoch's `kl_weight`; and `val_loss`,
        `val_reconstruction`, `val_kl`. A batch, to callbacks, is a whole epoch. Callbacks may set
        kl_weight, the learning rate, weights and stop_training; other changes of the model take
        effect in the next `fit`. After layers were frozen or unfrozen call `compile` again, as with
        every Keras model. BackupAndRestore continues at the right epoch, but draws its random
        numbers as from the first; `initial_epoch` is exact.

        Raises TypeError for other options of Keras', and ValueError for images that `check_images`
        rejects, for a batch size below 1 or above the number of images, for a model compiled with a
        loss or metrics, which would be ignored, for parts that do not fit together, and for
        variables that Keras does not train because it does not track them.
        """
        unused = sorted(options.keys() - {"callbacks", "verbose", "validation_freq"})
        if y is not None or isinstance(validation_data, tuple):
            unused.append("targets or labels")
        if unused:
            raise TypeError(
                f"fit of a VAE takes no {', '.join(unused)}: it learns from images alone, in an "
                "order drawn from the seed; give fit(x, validation_data=images, ...)"
            )
        x = check_images(x)
        if not 1 <= batch_size <= len(x):
            raise ValueError(f"a batch of {batch_size} from {len(x)} training images")
        if x.dtype == np.uint8 and x.max() < 32:
            note(
                f"no byte of the training images is above {x.max()}, of 255: all are almost black. "
                "Scale them to the range from 0 to 255, or give pixels, floats in [0, 1]."
            )
        self.prepare()
        self.make_train_function(force=True)  # what was changed since the last `fit` takes effect
        self.make_test_function(force=True)
        seed = given_or_drawn(seed)
        if validation_data is not None:
            validation_data = evaluation_batches(
                validation_data, self.latent_size, seed, validation_batch_size
            ).cache()
        draw = functools.partial(epoch_draws, seed, len(x), batch_size, self.latent_size)
        draws = without_autotuning(tf.data.Dataset.counter(initial_epoch).map(draw))
        # Compiled, the conversion needs no temporary copies.
        convert = tf.function(functools.partial(to_pixels), jit_compile=self.jit_compile)
        self.pixels.assign(convert(x))
        try:
            return super().fit(
                draws,
                validation_data=validation_data,
                steps_per_epoch=1,
                epochs=epochs,
                initial_epoch=initial_epoch,
                shuffle=False,
                **options,
            )
        finally:
            self.pixels.assign(tf.zeros_like(self.pixels[:0]))  # which frees their memory

    def make_train_function(self, force=False):
        """Compile an epoch as one function, in place of Keras' own method of this name."""
        if force or self.train_function is None:
            if not self.optimizer.built:  # or an epoch would be traced twice
                self.optimizer.build(self.trainable_variables)
            if self.jit_compile and not xla_available():
                self.jit_compile = False
            self.train_function = on_next(self, self.train_step, jit_compile=self.jit_compile)

    def train_step(self, draws):
        """Train for an epoch, which is a single step to Keras' `fit`, and return its logs.

        `draws` are the order of the images, which are in `self.pixels`, and the noise of their
        latent codes: see `epoch_draws`.
        """
        order, epsilon = draws
        steps = len(order)
        means = tf.zeros(len(LOSS_NAMES), keras.config.floatx())
        for step in tf.range(steps):
            x = tf.gather(self.pixels, order[step])
            means += self.gradient_step(x, epsilon[step]) / steps
        logs = self.update_metrics(tf.unstack(means))
        return logs | {"kl_weight": self.kl_variable.read_value()}

    # AutoGraph converts the loop above; to convert Keras' layers and optimizer would take seconds.
    @tf.autograph.experimental.do_not_convert
    def gradient_step(self, x, epsilon):
        """Change the weights to lower the mean loss of a batch; return its mean losses, [3]."""
        with tf.GradientTape() as tape:
            losses = self.losses_of_images(x, epsilon, training=True)
            means = [tf.reduce_mean(values) for values in losses]
            # The losses that layers add, as regularizers do, are minimised but not reported. An
            # optimizer with loss scaling, as for mixed_float16, scales the gradients back.
            objective = self.optimizer.scale_loss(means[0] + sum(self.losses))
        check_tracked(self, tape)
        gradients = tape.gradient(objective, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return tf.stack(means)

    def prepare(self):
        """Check the model, build what a subclass adds, and compile it where it is not yet."""
        if tf.distribute.has_strategy() or self.distribute_strategy != tf.distribute.get_strategy():
            raise InputError("a VAE trains on one device; make it outside a tf.distribute strategy")
        self.latent_size = check_parts(self)
        terms = self.loss_terms(tf.zeros((2, IMAGE_SIDE**2)), tf.zeros((2, self.latent_size)))
        shapes = [tuple(term.shape) for term in terms]
        if shapes != [(2,), (2,)]:
            raise ValueError(
                "loss_terms must return one number an image, [batch], twice, but of two images it "
                f"returns the shapes {shapes}"
            )
        if not self.compiled:
            self.compile(optimizer=adam(), jit_compile=True)
        config = self.get_compile_config()
        ignored = ("loss", "loss_weights", "metrics", "weighted_metrics", "steps_per_execution")
        given = [name for name in ignored if config.get(name) not in (None, 1)]
        if given:
            raise ValueError(
                f"compile of a VAE takes no {', '.join(given)}: loss and metrics are those of "
                "`loss_terms`, and an epoch is one step; give compile(optimizer=..., "
                "jit_compile=...)"
            )

    # ---- Evaluation

    def make_test_function(self, force=False):
        """Compile the evaluation of a batch, without XLA: that would take longer than it saves."""
        if force or self.test_function is None:
            self.test_function = on_next(self, self.test_step, reduce_retracing=True)

    def test_step(self, batch):
        """Add the losses of a batch, pixels and noise, to the metrics; return its logs."""
        return self.update_metrics(self.losses_of_images(*batch))

    def evaluate(self, x, y=None, *, batch_size=EVALUATION_BATCH_SIZE, seed=None, **options):
        """Return the mean loss, reconstruction loss and KL divergence of images, in nats per image.

        `x`: see `check_images`. `seed`: the noise of the latent codes is `evaluation_noise`, by
        default with a seed from what keras.utils.set_random_seed seeds. `options` are Keras':
        `return_dict=True` names the losses. Raises what `fit` raises.
        """
        if isinstance(x, tf.data.Dataset):  # `fit` evaluates its validation batches so
            return super().evaluate(x, **options)
        if y is not None:
            raise TypeError("a VAE is evaluated on images alone, without targets or labels")
        self.prepare()
        self.make_test_function(force=True)
        seed = given_or_drawn(seed)
        batches = evaluation_batches(x, self.latent_size, seed, batch_size)
        return super().evaluate(batches, **options)

    def image_losses(self, images, epsilon=None):
        """Return the reconstruction loss and the KL divergence of each image, NumPy [count], nats.

        `images`: see `check_images`. `epsilon` [count, 2] is the noise of their latent codes, by
        default an `evaluation_noise`, new in each call. With 0 the latent codes are z_mean; these
        losses are lower and not the negative ELBO. Raises ValueError for an `epsilon` of another
        shape.
        """
        images = check_images(images)
        shape = (len(images), self.latent_size)
        if epsilon is None:
            epsilon = evaluation_noise(*shape, given_or_drawn(None))
        epsilon = np.asarray(epsilon, np.float32)
        if epsilon.shape not in ((), shape):
            raise ValueError(f"epsilon must be 0 or of the shape {shape}, not {epsilon.shape}")
        epsilon = np.broadcast_to(epsilon, shape)
        terms = [
            self.loss_terms(to_pixels(images[batch]), epsilon[batch])
            for batch in slices(len(images))
        ]
        reconstruction, kl = zip(*terms, strict=True)
        return np.concatenate(reconstruction), np.concatenate(kl)

    def predict(self, x, **options):
        """Return what `call` returns, NumPy, of images (see `check_images`); `options`: Keras'."""
        return super().predict(check_images(x), **options)

    def encode(self, images):
        """Encode images (see `check_images`) -> z_mean, z_log_sigma_sq, NumPy [count, 2]."""
        images = check_images(images)
        codes = [
            self.encoder(to_pixels(images[batch]), training=False) for batch in slices(len(images))
        ]
        z_mean, z_log_sigma_sq = zip(*codes, strict=True)
        return tuple(np.concatenate(parts).astype(np.float32) for parts in (z_mean, z_log_sigma_sq))

    def decode(self, z):
        """Decode latent codes [count, 2], or a single one -> pixels [count, 784], NumPy, in [0, 1].

        To generate new digits, decode `sample_prior(count)`.
        """
        reconstruction = self.decoder(np.array(z, np.float32, ndmin=2), training=False)
        reconstruction = tf.cast(reconstruction, tf.float32)
        if self.reconstruction_loss == "cross-entropy":
            reconstruction = tf.sigmoid(reconstruction)
        return np.clip(reconstruction, 0, 1)  # [4]

    def sample_prior(self, count, seed=None):
        """Return latent codes z ~ N(0, I), NumPy [count, 2]; override it for another prior."""
        seed = given_or_drawn(seed)
        return np.random.default_rng(seed).standard_normal((count, self.latent_size), np.float32)

    # ---- Files

    def get_config(self):
        """Return what `from_config` needs to make this model again, without its weights."""
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "reconstruction_loss": self.reconstruction_loss,
            "kl_weight": self.kl_weight,
        }

    @classmethod
    def from_config(cls, config):
        """Return the model that `get_config` describes."""
        deserialize = keras.saving.deserialize_keras_object
        parts = {part: deserialize(config[part]) for part in ("encoder", "decoder")}
        model = cls(**config | parts)
        model(tf.zeros((1, IMAGE_SIDE**2)))  # builds the layers that a subclass adds
        return model

    def export(self, filepath, *args, **kwargs):
        """Export the model as Keras does; its input is pixels [batch, 784], float32."""
        kwargs.setdefault("input_signature", [tf.TensorSpec((None, IMAGE_SIDE**2), tf.float32)])
        return super().export(filepath, *args, **kwargs)


# ---- What the training and the evaluation use ----------------------------------------------------


def check_parts(model):
    """Return the latent size of a VAE, or raise ValueError where its parts do not fit together.

    It calls the encoder with two black images and the decoder with some latent codes, which also
    builds layers that wait for their first input.
    """
    x = tf.zeros((2, IMAGE_SIDE**2))
    codes = model.encoder(x, training=False)
    shapes = [tuple(code.shape) for code in codes] if isinstance(codes, list | tuple) else []
    if len(shapes) != 2 or len(shapes[0]) != 2 or shapes[0] != shapes[1]:
        raise ValueError(
            "the encoder must return z_mean and z_log_sigma_sq, both [batch, latent size]; of two "
            f"images it returns the shapes {shapes or tuple(codes.shape)}"
        )
    latent_size = shapes[0][1]
    # Far codes, because a decoder that ends without a sigmoid leaves [0, 1] for some of them.
    z = 10 * np.random.default_rng(0).standard_normal((16, latent_size), np.float32)
    reconstruction = model.decoder(z, training=False)
    if reconstruction.shape != (len(z), IMAGE_SIDE**2):
        raise ValueError(
            f"the decoder must return [batch, {IMAGE_SIDE**2}]; of {len(z)} latent codes it "
            f"returns the shape {tuple(reconstruction.shape)}; keras.layers.Flatten() may end it"
        )
    outputs = tf.cast(reconstruction, tf.float32).numpy()
    is_sigmoid = outputs.min() >= 0 and outputs.max() <= 1 and outputs.any()
    if model.reconstruction_loss == "cross-entropy" and is_sigmoid:
        raise ValueError(
            "the cross-entropy takes the decoder's outputs as logits, but they lie in [0, 1]: end "
            "the decoder without a sigmoid"
        )
    return latent_size


def check_tracked(model, tape):
    """Raise ValueError for variables of the loss that Keras does not track, and so not train."""
    tracked = {variable.value.ref() for variable in model.variables} | {model.kl_variable.ref()}
    untracked = [v.name for v in tape.watched_variables() if v.ref() not in tracked]
    if untracked:
        raise ValueError(
            f"Keras does not track {', '.join(untracked)}, which would never be trained: use Keras "
            "layers, or make them by `add_weight` in a layer or in the model"
        )


def on_next(model, step, **options):
    """Return the function for Keras to call: a step of the model on the next of an iterator."""
    if not model.run_eagerly:
        # By the code of a function TensorFlow counts how often it is traced, and warns at the fifth
        # model; a partial counts by itself.
        step = tf.function(functools.partial(step), **options)
    return lambda iterator: step(next(iterator))


def evaluation_batches(images, latent_size, seed, batch_size):
    """Return a data set of batches of pixels [batch, 784] and their `evaluation_noise`."""
    images = check_images(images)
    epsilon = evaluation_noise(len(images), latent_size, seed)
    batches = tf.data.Dataset.from_tensor_slices((images, epsilon)).batch(batch_size)
    batches = batches.map(lambda images, epsilon: (to_pixels(images), epsilon))
    return without_autotuning(batches)


def without_autotuning(dataset):
    """Return the data set without a thread of tf.data that delays the end of each use of it."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def slices(count):
    """Return slices of EVALUATION_BATCH_SIZE that make up `count` images."""
    size = EVALUATION_BATCH_SIZE
    return [slice(start, start + size) for start in range(0, count, size)]


def xla_available():
    """Return whether XLA can compile here; print a note where it cannot."""
    try:
        tf.function(functools.partial(tf.exp), jit_compile=True)(tf.zeros([1]))
    except tf.errors.OpError as error:
        note(f"XLA is unavailable here ({reason(error)}); training without it, more slowly.")
        return False
    return True


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


# ---- Accuracy ------------------------------------------------------------------------------------


def knn_accuracy(codes, labels, test_codes, test_labels):
    """Return the k-NN accuracy, k = NEIGHBOURS, of latent codes [count, 2] and their labels.

    It is the share of test codes whose label is the most frequent one of the k nearest `codes`, the
    smallest of several. Raises ValueError for labels that `check_labels` rejects.
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
# `savefig`; plt.show() does not know it. It is legible in every matplotlib style. Images are those
# that `check_images` accepts, bytes or pixels in [0, 1]; it raises ValueError for others.


def show_pixels(axes, pixels, **options):
    """Show pixels [rows, columns] in [0, 1] in fixed grey levels."""
    axes.grid(False)
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1}  # [4]
    # Scaled as numbers, not as colours: that would take 80 MB more for the manifold.
    scaling = {"interpolation": "nearest", "interpolation_stage": "data"}
    axes.imshow(pixels, origin="upper", **grey, **scaling, **options)


def tile_images(images, side):
    """Tile images [side * side, 784] row by row -> pixels [side * IMAGE_SIDE, side * IMAGE_SIDE].

    Raises ValueError for another number of images.
    """
    pixels = to_pixels(check_images(images)).numpy()
    if len(pixels) != side**2:
        raise ValueError(f"{side} x {side} tiles need {side**2} images, not {len(pixels)}")
    tiles = np.reshape(pixels, (side, side, IMAGE_SIDE, IMAGE_SIDE))
    return tiles.transpose(0, 2, 1, 3).reshape(side * IMAGE_SIDE, side * IMAGE_SIDE)


def reconstructions_figure(x, reconstruction):
    """Draw images `x` [count, 784] over their reconstructions [count, 784].

    Figure 10-18 of the original.
    """
    x, reconstruction = (to_pixels(check_images(images)) for images in (x, reconstruction))
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
    same where `labels` lack some. More than NAMED_CLASSES have no names beside their dots. The
    dashed square is the region that the manifold shows. Raises ValueError for other shapes, and for
    labels that `check_labels` rejects or `classes` lack.
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
    ticks = range(0, len(classes), math.ceil(len(classes) / NAMED_CLASSES))
    bar.set_ticks(ticks, labels=classes[ticks])
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
    if len(classes) <= NAMED_CLASSES:
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
    pairs = list(itertools.combinations(places, 2))
    for _ in range(100):
        for first, second in pairs:
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
    """Draw the decoded `manifold_codes`, images [225, 784], z_1 to the right, z_2 upward.

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
    """Draw 8 x 8 digits decoded from samples of the prior, images [64, 784]."""
    figure = Figure(figsize=(4.0, 4.0), layout="compressed")
    axes = figure.subplots(subplot_kw={"xticks": [], "yticks": []})
    show_pixels(axes, tile_images(pixels, 8))
    return figure


def training_curves_figure(history):
    """Draw the loss and its parts over the epochs of a History, or of its dict of lists.

    Losses of validation images are drawn where every epoch has them.
    """
    logs = getattr(history, "history", history)
    first = history.epoch[0] if isinstance(history, keras.callbacks.History) else 0
    epochs = range(first + 1, first + len(logs["loss"]) + 1)
    figure = Figure(figsize=(9.0, 2.9), layout="compressed")
    titles = ("loss", "reconstruction loss", "KL divergence")
    for axes, name, title in zip(figure.subplots(1, 3), LOSS_NAMES, titles, strict=True):
        axes.plot(epochs, logs[name], ".-", markersize=3, label="training")
        validation = logs.get(f"val_{name}", [])
        if len(validation) == len(epochs):
            axes.plot(epochs, validation, ".--", markersize=3, label="validation")
        axes.set(title=title, xlabel="epoch", ylabel="nats per image")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    return figure


# ---- Data ----------------------------------------------------------------------------------------

MNIST = Path(__file__).resolve().parent / "data" / "mnist.npz"
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DATA_FORMS = "an .npz file in Keras' layout or the directory of the four IDX files"


def check_images(images):
    """Return images [count, 784] as uint8 from 0 to 255 or as float32 from 0 to 1.

    `images` are bytes, whole numbers from 0 to 255 of any integer type, or pixels, floats in
    [0, 1]; their shape is [count, 28, 28], [count, 28, 28, 1] or [count, 784], or that of a single
    image, [28, 28] or [784]. Raises ValueError for anything else.
    """
    images = np.asarray(images)
    side, size = IMAGE_SIDE, IMAGE_SIDE**2
    is_single = images.shape in ((side, side), (size,))
    has_shape = is_single or images.shape[1:] in ((side, side), (side, side, 1), (size,))
    is_number = images.dtype.kind in "uif" and images.size > 0
    kind, highest = (np.float32, 1) if images.dtype.kind == "f" else (np.uint8, 255)
    if has_shape and is_number and images.min() >= 0 and images.max() <= highest:
        return images.astype(kind, copy=False).reshape(-1, size)
    found = f"{images.dtype} of shape {images.shape}"
    if is_number:
        found += f" from {images.min():g} to {images.max():g}"
    raise ValueError(
        f"images are {found}; they must be bytes, whole numbers from 0 to 255, or pixels, floats "
        f"from 0 to 1 (bytes / 255), with {side} x {side} = {size} an image"
    )


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
    """Convert images to pixels in [0, 1]: bytes, of any integer type, are divided by 255.

    Floats are pixels already. The type is keras.config.floatx(), float32 by default.
    """
    images = tf.convert_to_tensor(images)
    pixels = tf.cast(images, keras.config.floatx())
    return pixels if images.dtype.is_floating else pixels / 255


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


def load_data(path=MNIST):
    """Return the training, validation and test images with their labels as `Data`.

    `path` is an .npz file in Keras' layout, or a directory with the four IDX files of MNIST or of
    a data set like it; by default, MNIST in the folder data beside this file. The first twelfth of
    the training images is the validation set. Figures and page show the first test images: where
    these lack a class, as in a set sorted by class, the test set is shuffled. Raises InputError for
    files without such data.
    """
    path = Path(os.path.expanduser(path))
    if not path.exists():
        raise InputError(f"{path}: cannot be read (no such file or directory); give {DATA_FORMS}")
    x, y, x_test, y_test = read_idx_directory(path) if path.is_dir() else read_npz(path)
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
    if not np.isin(y_test, y_test[: 10 * len(classes)]).all():
        order = np.random.default_rng(0).permutation(len(y_test))
        x_test, y_test = x_test[order], y_test[order]
    return Data(
        name="MNIST" if path == MNIST else path.resolve().name,
        x_train=x[held_out:],
        y_train=y[held_out:],
        x_validation=x[:held_out],
        y_validation=y[:held_out],
        x_test=x_test,
        y_test=y_test,
        classes=classes,
    )


def check_set(images, labels, source):
    """Return images as bytes, uint8 [count, 784], and labels [count], or raise InputError."""
    try:
        images = check_images(images)
        labels = check_labels(labels, len(images))
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error
    if images.dtype != np.uint8:
        images = np.rint(255 * images).astype(np.uint8)
    return images, labels


def read_npz(path):
    """Return x_train, y_train, x_test, y_test from an .npz file."""
    try:
        if not zipfile.is_zipfile(path):  # NumPy would advise to unpickle it
            raise ValueError("it is not a complete .npz file")
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            arrays = [archive[key] for key in NPZ_KEYS if key in names]
    except Exception as error:  # whatever zip, zlib and NumPy make of a damaged file
        raise InputError(f"{path}: cannot be read ({reason(error)}); give {DATA_FORMS}") from error
    if len(arrays) < len(NPZ_KEYS):
        raise InputError(f"{path}: holds {', '.join(names)}; it must hold {', '.join(NPZ_KEYS)}")
    return arrays


def read_idx_directory(directory):
    """Return x_train, y_train, x_test, y_test from the four IDX files in `directory`.

    They may be compressed, and their names may have a dot, as Kaggle's have, for the hyphen.
    """
    arrays = []
    for name in IDX_NAMES:
        pattern = name.replace("-idx", "?idx") + "*"
        files = sorted(path for path in directory.glob(pattern) if path.is_file())
        if not files:
            held = sorted(path.name for path in directory.iterdir())[:20]
            raise InputError(
                f"{directory}: has no {name}; give the folder of all four IDX files, plain or .gz; "
                f"it holds {held}"
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
    Where its name is a symbolic link, the link stays, and the file that it points to is replaced.
    """
    failures = {}
    for name, content in contents.items():
        try:
            target = (directory / name).resolve()
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=target.parent) as folder:
                path = Path(folder, name)
                if callable(content):
                    content(path)
                else:
                    path.write_bytes(content)
                os.replace(path, target)
            say(f"wrote {directory / name}")
        except OSError as error:
            failures[name] = reason(error)
    return failures


# ---- Program -------------------------------------------------------------------------------------

OUTPUT_FILES = ("vae.keras", "metrics.json", "history.csv", "reconstructions.png", "samples.png")
OUTPUT_FILES += ("training_curves.png", "latent_scatter.png", "manifold.png", "explorer.html")


def parse_arguments(argv=None):
    """Return the options; wrong ones end the program with one line and status 2."""
    parser = argparse.ArgumentParser(
        prog="vae_mnist.py",
        usage=argparse.SUPPRESS,  # or it would precede every error
        description="A variational autoencoder (VAE) for MNIST with a 2-D latent space.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", metavar="PATH", default=str(MNIST), help=DATA_FORMS)
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


def train_model(options, data):
    """Return a trained model, its logs of each epoch, and the explorer.Recorder or None."""
    keras.utils.set_random_seed(options.seed)
    model = VAE(reconstruction_loss=options.reconstruction_loss, kl_weight=options.kl_weight)
    model.compile(optimizer=adam(options.learning_rate), jit_compile=True)
    rows = []  # with the columns that other callbacks add to the logs

    def keep_row(epoch, logs):
        if not all(math.isfinite(value) for value in logs.values()):
            raise InputError(
                f"the loss is no longer finite in epoch {epoch + 1}; try a smaller --learning-rate "
                "or --kl-weight"
            )
        rows.append({"epoch": epoch + 1} | logs)

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=keep_row), EpochTable()]
    recorder = None
    if explorer:
        recorder = explorer.Recorder(data.x_test[:RECORDED_IMAGES], data.y_test[:RECORDED_IMAGES])
        callbacks.append(recorder)
    model.fit(
        data.x_train,
        validation_data=data.x_validation,
        epochs=options.epochs,
        batch_size=options.batch_size,
        callbacks=callbacks,
        seed=options.seed,
        verbose=0,
    )
    return model, rows, recorder


def assess_model(model, data, seed):
    """Print the results on the test images; return their sampled latent codes and the results."""
    losses = model.evaluate(data.x_test, seed=seed, verbose=0, return_dict=True)
    z_mean, z_log_sigma_sq = model.encode(data.x_test)
    train_codes, _ = model.encode(data.x_train)
    accuracy = knn_accuracy(train_codes, data.y_train, z_mean, data.y_test)
    weight = "" if model.kl_weight == 1 else f"{model.kl_weight:g} x "
    say(
        f"test loss {losses['loss']:.4f} = {losses['reconstruction']:.4f} reconstruction "
        f"+ {weight}{losses['kl']:.4f} KL"
    )
    say(f"k-NN accuracy {accuracy:.4f} (k = {NEIGHBOURS}, training to test codes)")
    if np.mean(kl_divergence(z_mean, z_log_sigma_sq)) < COLLAPSED_KL:
        note(
            f"posterior collapse (KL below {COLLAPSED_KL} nats): every image has the same "
            "reconstruction; try another --seed or a smaller --kl-weight."
        )
    z = sample_latent(z_mean, z_log_sigma_sq, evaluation_noise(*z_mean.shape, seed)).numpy()
    return z, losses, accuracy


def write_history(rows, path):
    """Write the logs of each epoch to a CSV file; a column that an epoch lacks is left empty."""
    columns = ["epoch", *LOSS_NAMES, "kl_weight", *(f"val_{name}" for name in LOSS_NAMES)]
    columns += sorted({column for row in rows for column in row} - set(columns))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw_figures(model, data, z, seed):
    """Return the figures by file name; `z` are sampled latent codes of the test images."""
    figures = {
        "reconstructions.png": reconstructions_figure(data.x_test[:10], model.decode(z[:10])),
        "samples.png": samples_figure(model.decode(model.sample_prior(64, seed))),
        "training_curves.png": training_curves_figure(model.history),
    }
    if model.latent_size == 2:
        scatter = latent_scatter_figure(z, data.y_test, classes=data.classes)
        figures["latent_scatter.png"] = scatter
        figures["manifold.png"] = manifold_figure(model.decode(manifold_codes()))
    else:
        note(
            f"a latent space of {model.latent_size} dimensions cannot be drawn: "
            "latent_scatter.png and manifold.png are not written."
        )
    return figures


def explorer_page(model, data, recorder=None, losses=None):
    """Return the page to explore the latent space, bytes of HTML, made by the folder `explorer`.

    `recorder`: the explorer.Recorder of the training; `losses`: what `evaluate` returns of the test
    images with return_dict=True, evaluated here by default. Raises explorer.PageError for a model
    that the page cannot run, for example one whose latent space has not two dimensions.
    """
    if losses is None:
        losses = model.evaluate(data.x_test, seed=0, verbose=0, return_dict=True)
    return explorer.make_page(
        model,
        data,
        recorder,
        losses=losses,
        colours=class_colours(len(data.classes)),
        edge=MANIFOLD_QUANTILES[-1],
        neighbours=NEIGHBOURS,
        collapsed_kl=COLLAPSED_KL,
    )


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
    model, rows, recorder = train_model(options, data)
    z, losses, accuracy = assess_model(model, data, options.seed)

    failures = write_files(options.output_dir, {"vae.keras": model.save})  # what took the time
    metrics = {
        "data": data.name,
        "train_images": len(data.x_train),
        "test_images": len(data.x_test),
        "epochs": len(rows),
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "model": type(model).__name__,
        "reconstruction_loss": model.reconstruction_loss,
        "kl_weight": model.kl_weight,
        "latent_size": model.latent_size,
        "parameters": model.count_params(),
        "seed": options.seed,
        "test": losses,
        "knn_accuracy": accuracy,
    }
    numbers = {
        "metrics.json": f"{json.dumps(metrics, indent=2)}\n".encode(),
        "history.csv": functools.partial(write_history, rows),
    }
    failures |= write_files(options.output_dir, numbers)
    with matplotlib.rc_context(matplotlib.rcParamsDefault):  # whatever the user's matplotlibrc says
        figures = draw_figures(model, data, z, options.seed)
        pictures = {
            name: functools.partial(figure.savefig, dpi=200) for name, figure in figures.items()
        }
        failures |= write_files(options.output_dir, pictures)
    page = {}
    if explorer:
        try:
            page["explorer.html"] = explorer_page(model, data, recorder, losses)
        except explorer.PageError as error:
            note(f"{error}: explorer.html is not written.")
    else:
        note("there is no folder explorer beside vae_mnist.py: explorer.html is not written.")
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
