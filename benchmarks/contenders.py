"""The ways to train the same VAE that `training_speed.py` compares.

A contender is a function of three arguments: images, uint8 [count, 784], whole batches only; the
batch size; and `turn`, a function. The contender calls `turn` before its first epoch with None and
after each epoch with the mean loss over that epoch, in nats per image, or None if it has no loss.
It trains for another epoch, on reshuffled images, while `turn` returns True.

All contenders train the network of this project with its loss and with Adam, from Glorot uniform
weights and zero biases. Only `this_project` imports vae_mnist, which sets environment variables of
TensorFlow; the others run with the defaults of their library, except for what their names say. Each
imports its library when it is called: a process loads no other, and reports if it is missing.
"""

import functools
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent

LEARNING_RATE = 0.001
SHAPES = {"h1": (784, 256), "mean": (256, 2), "log_sigma_sq": (256, 2), "h2": (2, 256)}
SHAPES["reconstruction"] = (256, 784)


def by_epochs(make):
    """Return a contender, given a function that returns a function that trains for one epoch."""

    @functools.wraps(make)
    def contender(images, batch_size, turn):
        epoch = make(images, batch_size)
        loss = None
        while turn(loss):
            loss = epoch()

    return contender


def turn_callback(turn):
    """Return a Keras callback that calls `turn` after each epoch and stops the training for it."""
    import keras

    class TurnCallback(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = not turn(logs["loss"])

    return TurnCallback()


def this_project(images, batch_size, turn):
    """Train by `fit` of the project's `VAE`."""
    sys.path.insert(0, str(ROOT))
    import vae_mnist

    vae_mnist.keras.utils.set_random_seed(0)
    model = vae_mnist.VAE()
    if turn(None):
        model.fit(
            images,
            epochs=sys.maxsize,
            batch_size=batch_size,
            callbacks=[turn_callback(turn)],
            seed=0,
            verbose=0,
        )


@by_epochs
def tensorflow_1(images, batch_size):
    """Train as the original does: a graph, a session, and a feed_dict for each batch.

    Its cost is the mean over the images of SE + KL, and its initial weights are those of `glorot`.
    """
    from original import build_original, v1

    original = build_original(listing_cost=False)
    x = images / np.float32(255)
    session = v1.Session(graph=original.graph)
    with original.graph.as_default():
        session.run(v1.global_variables_initializer())
    session.run(original.assign, dict(zip(original.initial_values.values(), glorot(), strict=True)))
    rng = np.random.default_rng(0)

    def epoch():
        losses = []
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch_size):
            batch = x[order[start : start + batch_size]]
            losses.append(session.run([original.train, original.cost], {original.x: batch})[1])
        return float(np.mean(losses))

    return epoch


def keras_model():
    """Return the network as a Keras model, in the manner of Keras' guides."""
    import keras
    from keras import layers, ops

    class Sampling(layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed_generator = keras.random.SeedGenerator(0)

        def call(self, inputs):
            z_mean, z_log_sigma_sq = inputs
            epsilon = keras.random.normal(ops.shape(z_mean), seed=self.seed_generator)
            return z_mean + ops.exp(0.5 * z_log_sigma_sq) * epsilon

    class KerasVAE(keras.Model):
        def __init__(self):
            super().__init__()
            self.h1 = layers.Dense(256, activation="relu")
            self.z_mean = layers.Dense(2)
            self.z_log_sigma_sq = layers.Dense(2)
            self.sampling = Sampling()
            self.h2 = layers.Dense(256, activation="relu")
            self.reconstruction = layers.Dense(784)

        def call(self, x):
            h1 = self.h1(x)
            z_mean, z_log_sigma_sq = self.z_mean(h1), self.z_log_sigma_sq(h1)
            z = self.sampling((z_mean, z_log_sigma_sq))
            return self.reconstruction(self.h2(z)), z_mean, z_log_sigma_sq

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            reconstruction, z_mean, z_log_sigma_sq = y_pred
            squared_error = 0.5 * ops.sum(ops.square(reconstruction - x), axis=-1)
            kl = -0.5 * ops.sum(
                1 + z_log_sigma_sq - ops.square(z_mean) - ops.exp(z_log_sigma_sq), axis=-1
            )
            return ops.mean(squared_error + kl)

    keras.utils.set_random_seed(0)
    return KerasVAE()


def keras_fit(images, batch_size, turn, **compile_options):
    """Train by `keras.Model.fit`; `compile_options` are passed on to `keras.Model.compile`."""
    import keras

    model = keras_model()
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), **compile_options)
    x = images / np.float32(255)
    if turn(None):
        model.fit(
            x,
            batch_size=batch_size,
            epochs=sys.maxsize,
            callbacks=[turn_callback(turn)],
            verbose=0,
        )


def keras_fit_compiled(steps_per_execution):
    """Return the contender that trains by `fit` with XLA and several steps a call."""
    return functools.partial(keras_fit, jit_compile=True, steps_per_execution=steps_per_execution)


def glorot():
    """Return initial weights, Glorot uniform, and biases, zero, in the order of the layers."""
    rng = np.random.default_rng(0)
    arrays = []
    for shape in SHAPES.values():
        limit = np.sqrt(6 / sum(shape))
        arrays.append(rng.uniform(-limit, limit, shape).astype(np.float32))
        arrays.append(np.zeros(shape[1], np.float32))
    return arrays


def torch_model():
    """Return the network and its loss in PyTorch, in the manner of PyTorch's VAE example."""
    import torch
    from torch import nn

    class TorchVAE(nn.Module):
        def __init__(self):
            super().__init__()
            for name, shape in SHAPES.items():
                layer = nn.Linear(*shape)
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
                self.add_module(name, layer)

        def forward(self, x):
            h1 = torch.relu(self.h1(x))
            z_mean, z_log_sigma_sq = self.mean(h1), self.log_sigma_sq(h1)
            z = z_mean + torch.exp(0.5 * z_log_sigma_sq) * torch.randn_like(z_mean)
            return self.reconstruction(torch.relu(self.h2(z))), z_mean, z_log_sigma_sq

    def loss_function(x, reconstruction, z_mean, z_log_sigma_sq):
        squared_error = 0.5 * (reconstruction - x).square().sum()
        kl = -0.5 * (1 + z_log_sigma_sq - z_mean.square() - z_log_sigma_sq.exp()).sum()
        return (squared_error + kl) / len(x)

    torch.manual_seed(0)
    return TorchVAE(), loss_function


@by_epochs
def torch_eager(images, batch_size):
    """Train as PyTorch's VAE example does: a DataLoader, and each operation by itself."""
    import torch

    model, loss_function = torch_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    x = torch.from_numpy(images).float() / 255
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x), batch_size=batch_size, shuffle=True
    )

    def epoch():
        total = 0.0
        for (batch,) in loader:
            optimizer.zero_grad()
            loss = loss_function(batch, *model(batch))
            loss.backward()
            total += loss.item()
            optimizer.step()
        return total / len(loader)

    return epoch


@by_epochs
def torch_compiled(images, batch_size):
    """Train by the fastest way of those tried: compiled loss, fused Adam, batches by indexing."""
    import torch

    model, loss_function = torch_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    x = torch.from_numpy(images).float() / 255

    @torch.compile
    def batch_loss(batch):
        return loss_function(batch, *model(batch))

    def epoch():
        losses = []
        for indices in torch.randperm(len(x)).split(batch_size):
            optimizer.zero_grad()
            loss = batch_loss(x[indices])
            loss.backward()
            losses.append(loss.detach())
            optimizer.step()
        return float(torch.stack(losses).mean())

    return epoch


@by_epochs
def jax_scan(images, batch_size):
    """Train by one compiled function an epoch, JAX's `lax.scan` over its batches.

    JAX leaves optimizers to other libraries. This is Adam with the default constants of Optax, in
    the faster order of operations that Kingma & Ba (2014) give at the end of section 2.
    """
    import jax
    import jax.numpy as jnp

    def loss_function(weights, x, epsilon):
        w1, b1, mean_w1, mean_b1, log_sigma_w1, log_sigma_b1, w2, b2, w3, b3 = weights
        h1 = jax.nn.relu(x @ w1 + b1)
        z_mean, z_log_sigma_sq = h1 @ mean_w1 + mean_b1, h1 @ log_sigma_w1 + log_sigma_b1
        z = z_mean + jnp.exp(0.5 * z_log_sigma_sq) * epsilon
        reconstruction = jax.nn.relu(z @ w2 + b2) @ w3 + b3
        squared_error = 0.5 * jnp.sum(jnp.square(reconstruction - x), axis=-1)
        kl = -0.5 * jnp.sum(
            1 + z_log_sigma_sq - jnp.square(z_mean) - jnp.exp(z_log_sigma_sq), axis=-1
        )
        return jnp.mean(squared_error + kl)

    def step(on_device, carry, draws):
        weights, means, variances, count = carry
        order, epsilon = draws
        x = on_device[order]
        loss, gradients = jax.value_and_grad(loss_function)(weights, x, epsilon)
        count = count + 1
        rate = LEARNING_RATE * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        means = [0.9 * m + 0.1 * g for m, g in zip(means, gradients, strict=True)]
        variances = [
            0.999 * v + 0.001 * jnp.square(g) for v, g in zip(variances, gradients, strict=True)
        ]
        weights = [
            w - rate * m / (jnp.sqrt(v) + 1e-8)
            for w, m, v in zip(weights, means, variances, strict=True)
        ]
        return (weights, means, variances, count), loss

    @jax.jit
    def run_epoch(carry, on_device, order, epsilon):
        carry, losses = jax.lax.scan(
            lambda carry, draws: step(on_device, carry, draws), carry, (order, epsilon)
        )
        return carry, losses.mean()

    weights = [jnp.asarray(array) for array in glorot()]
    zeros = [jnp.zeros_like(array) for array in weights]
    carry = (weights, zeros, zeros, jnp.float32(0))
    on_device = jnp.asarray(images).astype(jnp.float32) / 255
    rng = np.random.default_rng(0)
    steps = len(images) // batch_size

    def epoch():
        nonlocal carry
        order = rng.permutation(len(images)).astype(np.int32).reshape(steps, batch_size)
        epsilon = rng.standard_normal((steps, batch_size, 2), dtype=np.float32)
        carry, loss = run_epoch(carry, on_device, order, epsilon)
        return float(loss)

    return epoch


@by_epochs
def floor(images, batch_size):
    """Compute the five large matrix products of a step and Adam's update of their weights, only.

    They are those of a linear autoencoder on one batch, so that each step depends on the last.
    """
    import tensorflow as tf

    x = tf.constant(images[:batch_size] / np.float32(255))
    w1, *_, w3, _ = glorot()
    weights = [tf.Variable(w1), tf.Variable(w3)]
    means = [tf.Variable(tf.zeros(w.shape)) for w in weights]
    variances = [tf.Variable(tf.zeros(w.shape)) for w in weights]

    @tf.function(jit_compile=True)
    def run_epoch(steps):
        for _ in tf.range(steps):
            w1, w3 = weights
            h = x @ w1
            error = h @ w3 - x
            gradient_w3 = tf.matmul(h, error, transpose_a=True)
            gradient_h = tf.matmul(error, w3, transpose_b=True)
            gradient_w1 = tf.matmul(x, gradient_h, transpose_a=True)
            for w, m, v, gradient in zip(
                weights, means, variances, (gradient_w1, gradient_w3), strict=True
            ):
                m.assign(0.9 * m + 0.1 * gradient)
                v.assign(0.999 * v + 0.001 * tf.square(gradient))
                w.assign_sub(LEARNING_RATE * m / (tf.sqrt(v) + 1e-8))

    steps = tf.constant(len(images) // batch_size)

    def epoch():
        run_epoch(steps)
        weights[0].numpy()  # waits for a device that computes asynchronously

    return epoch


CONTENDERS = {
    "this project": this_project,
    "TensorFlow 1 graph, feed_dict": tensorflow_1,
    "Keras fit": keras_fit,
    "Keras fit, XLA, 10 steps a call": keras_fit_compiled(10),
    "Keras fit, XLA, 50 steps a call": keras_fit_compiled(50),
    "Keras fit, XLA, 143 steps a call": keras_fit_compiled(143),
    "PyTorch, eager": torch_eager,
    "PyTorch, compiled, fused Adam": torch_compiled,
    "JAX, lax.scan": jax_scan,
    "floor: five products and Adam": floor,
}
