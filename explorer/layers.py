"""The model as the page runs it: lists of steps, read off its layers and compared with the model.

{"weights", "biases"} is a dense layer without its activation, {"activation"} an activation by its
name in Keras, and {"factors", "offsets"} what a batch normalization does after training. That is
what people build here: more layers, wider ones, another activation, normalization, dropout.
"""

import itertools

import keras
import numpy as np
from keras import layers, ops

from .page import PageError

TOLERANCE = 1e-4  # between the numbers of the model and those of the page
ACTIVATIONS = ("elu", "gelu", "leaky_relu", "relu", "sigmoid", "silu", "softplus", "tanh")


def read_model(model, x):
    """Return the steps of a VAE: "shared", "mean" and "logVariance" of the encoder, and "decoder".

    Their results are compared with the model's for pixels `x` [count, pixels]. Raises PageError.
    """
    to_mean, to_log_variance = chains_of(model.encoder, "encoder")
    (to_reconstruction,) = chains_of(model.decoder, "decoder")
    pairs = zip(to_mean, to_log_variance, strict=False)
    count = len(list(itertools.takewhile(lambda pair: pair[0] is pair[1], pairs)))
    chains = {
        "shared": to_mean[:count],
        "mean": to_mean[count:],
        "logVariance": to_log_variance[count:],
        "decoder": to_reconstruction,
    }
    steps = {
        part: [step for layer in chain for step in steps_of(layer)]
        for part, chain in chains.items()
    }
    compare(steps, model, x)
    return steps


def chains_of(model, part):
    """Return for each output of a functional or sequential model the layers that lead to it."""
    if isinstance(model, keras.Sequential):
        return [model.layers]
    if not isinstance(model, keras.Model) or not getattr(model, "outputs", None):
        raise PageError(f"the page reads functional and sequential models, and the {part} is none")
    return [chain_to(output, model) for output in model.outputs]


def chain_to(tensor, model):
    """Return the layers of a functional model that lead to a tensor, one after the other."""
    chain = []
    while not any(tensor is start for start in model.inputs):
        layer = next((layer for layer in model.layers if layer.output is tensor), None)
        if layer is None:
            raise PageError(f"the page does not know how {model.name} computes {tensor.name}")
        if not keras.backend.is_keras_tensor(layer.input):  # several inputs
            raise unknown(layer)
        chain.insert(0, layer)
        tensor = layer.input
    return chain


def steps_of(layer):
    """Return the steps of a layer, or raise PageError."""
    kind = type(layer)  # a subclass may do what its class does not
    if kind is layers.Dropout:
        return []
    if kind is layers.Dense:
        weights = ops.convert_to_numpy(layer.kernel)
        biases = ops.convert_to_numpy(layer.bias) if layer.use_bias else np.zeros(layer.units)
        return [{"weights": weights, "biases": biases}, *steps_of_activation(layer)]
    if kind is layers.BatchNormalization:
        return [affine_of(layer)]
    if kind is layers.Activation:
        return steps_of_activation(layer)
    if kind is layers.ReLU:
        return [{"activation": "relu"}]
    raise unknown(layer)


def steps_of_activation(layer):
    """Return the steps of the activation in which a layer ends: none or one."""
    name = getattr(layer.activation, "__name__", None)
    if name == "linear":
        return []
    if name not in ACTIVATIONS:
        raise unknown(layer)
    return [{"activation": name}]


def affine_of(normalization):
    """Return the step of a batch normalization: after training it is a factor and an offset."""
    mean, variance = normalization.moving_mean, normalization.moving_variance
    factors = 1 / np.sqrt(ops.convert_to_numpy(variance) + normalization.epsilon)
    if normalization.scale:
        factors = factors * ops.convert_to_numpy(normalization.gamma)
    offsets = -factors * ops.convert_to_numpy(mean)
    if normalization.center:
        offsets = offsets + ops.convert_to_numpy(normalization.beta)
    return {"factors": factors, "offsets": offsets}


def unknown(layer):
    """Return an error for a layer that the page cannot run."""
    kind = type(layer).__name__
    activation = getattr(layer, "activation", keras.activations.linear)
    if activation is not keras.activations.linear:
        kind += f" with {getattr(activation, '__name__', type(activation).__name__)}"
    return PageError(f"the page does not know the layer {layer.name} ({kind})")


def run(steps, values):
    """Return what steps compute from rows of numbers, as model.js does."""
    for step in steps:
        if "weights" in step:
            values = values @ step["weights"] + step["biases"]
        elif "factors" in step:
            values = values * step["factors"] + step["offsets"]
        else:
            activation = getattr(keras.activations, step["activation"])
            values = ops.convert_to_numpy(activation(np.asarray(values, np.float32)))
    return values


def compare(steps, model, x):
    """Raise PageError where the page computes something of `x` otherwise than the model."""
    hidden = run(steps["shared"], x)
    z_mean, z_log_sigma_sq = (run(steps[part], hidden) for part in ("mean", "logVariance"))
    corners = np.array([(-3, -3), (3, -3), (-3, 3), (3, 3)], np.float32)
    z = np.concatenate([z_mean, corners]).astype(np.float32)
    raw = run(steps["decoder"], z)
    name = model.reconstruction_loss
    if name == "squared-error":
        decoded, pixel_losses = raw.clip(0, 1), (raw[: len(x)] - x) ** 2 / 2
    else:  # cross-entropy
        decoded = ops.convert_to_numpy(ops.sigmoid(raw))
        pixel_losses = np.logaddexp(raw, 0)[: len(x)] - raw[: len(x)] * x
    encoded_by_model = model.encoder(x, training=False)
    reconstruction_of_model, kl_of_model = model.loss_terms(x, np.zeros_like(z_mean, np.float32))
    for what, ours, of_model in (
        ("mean of an image", z_mean, encoded_by_model[0]),
        ("log-variance of an image", z_log_sigma_sq, encoded_by_model[1]),
        ("output of the decoder", raw, model.decoder(z, training=False)),
        ("pixels of a latent code", decoded, model.decode(z)),
        (f"{name} of an image", pixel_losses.sum(axis=1), reconstruction_of_model),
        ("KL divergence of an image", kl_divergence(z_mean, z_log_sigma_sq), kl_of_model),
    ):
        if not is_close(ours, of_model):
            raise PageError(f"the page computes the {what} otherwise than this model")


def is_close(ours, expected):
    """Return whether numbers of the page are those of the model."""
    expected = np.asarray(expected, np.float32)
    return np.shape(ours) == expected.shape and np.allclose(
        ours, expected, rtol=TOLERANCE, atol=TOLERANCE
    )


def kl_divergence(z_mean, z_log_sigma_sq):
    """Return the KL divergence of each image's Gaussian from N(0, I), in nats."""
    return -np.sum(1 + z_log_sigma_sq - z_mean**2 - np.exp(z_log_sigma_sq), axis=1) / 2
