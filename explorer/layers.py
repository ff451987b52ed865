"""The model as the page runs it: a list of steps, read off its layers and compared with these.

{"weights", "biases"} is a dense layer without its activation, {"activation", "parameter"} an
activation, {"factors", "offsets"} what a batch normalization does after training.
"""

import itertools
import math

import keras
import numpy as np
from keras import layers, ops
from scipy.special import erf, expit

from .page import PageError

TOLERANCE = 1e-4  # between the numbers of the model and those of the page

# By Keras' names, with the number that shapes some of them. model.js has the same.
ACTIVATIONS = {
    "relu": lambda x, _: np.maximum(x, 0),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "elu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "selu": lambda x, _: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "gelu": lambda x, _: x / 2 * (1 + erf(x / math.sqrt(2))),
    "silu": lambda x, _: x * expit(x),
    "softplus": lambda x, _: np.logaddexp(x, 0),
    "tanh": lambda x, _: np.tanh(x),
    "sigmoid": lambda x, _: expit(x),
}
DEFAULT_PARAMETERS = {"leaky_relu": 0.2, "elu": 1.0}
IDLE_LAYERS = (  # outside training they return rows of numbers as they are
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.Flatten,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
)


def read_model(encoder, decoder, x):
    """Return the steps of the encoder, "shared", "mean", "logVariance", and of the "decoder".

    They are compared with the model for pixels `x` [count, pixels] and their latent codes; z_mean
    and z_log_sigma_sq of `x` are returned too. Raises PageError.
    """
    to_mean, to_log_variance = layers_of(encoder, "encoder")
    pairs = zip(to_mean, to_log_variance, strict=False)
    count = len(list(itertools.takewhile(lambda pair: pair[0] is pair[1], pairs)))
    shared, hidden = read_layers(to_mean[:count], x)
    mean, z_mean = read_layers(to_mean[count:], hidden)
    log_variance, z_log_sigma_sq = read_layers(to_log_variance[count:], hidden)
    if not is_close([z_mean, z_log_sigma_sq], encoder(x, training=False)):
        raise PageError("the encoder computes something else than its layers, and so than the page")

    corners = [(-3, -3), (3, -3), (-3, 3), (3, 3)]
    codes = np.concatenate([z_mean, np.array(corners, np.float32)])
    (chain,) = layers_of(decoder, "decoder")
    steps, raw = read_layers(chain, codes)
    if not is_close(raw, decoder(codes, training=False)):
        raise PageError("the decoder computes something else than its layers, and so than the page")
    parts = {"shared": shared, "mean": mean, "logVariance": log_variance, "decoder": steps}
    return parts, (z_mean, z_log_sigma_sq)


def layers_of(model, part):
    """Return for each output of a functional or sequential model the layers that lead to it."""
    if isinstance(model, keras.Sequential):
        return [model.layers]
    if not getattr(model, "outputs", None):
        raise PageError(f"the page reads functional and sequential models, and the {part} is none")
    return [layers_to(output) for output in model.outputs]


def layers_to(tensor):
    """Return the layers that lead to a tensor of a functional model, one after the other.

    A layer's public `input` and `output` exist only where it is used once, so this reads the
    history of the tensor.
    """
    layer, node, _ = tensor._keras_history
    inputs = layer._inbound_nodes[node].input_tensors
    if not inputs:
        return []
    if len(inputs) > 1:
        raise unknown(layer)
    return [*layers_to(inputs[0]), layer]


def read_layers(chain, values):
    """Return the steps of layers one after the other, and what these compute from `values`.

    Each layer is compared with its steps; PageError names the first that computes something else.
    """
    steps = []
    for layer in chain:
        if isinstance(layer, keras.Model):
            (nested,) = layers_of(layer, layer.name)
            of_layer, computed = read_layers(nested, values)
        else:
            of_layer = steps_of(layer)
            computed = run(of_layer, values)
        if not is_close(computed, layer(values, training=False)):
            raise unknown(layer)
        steps += of_layer
        values = computed
    return steps, values


def steps_of(layer):
    """Return the steps of a layer, or raise PageError."""
    kind = type(layer)  # a subclass may do what its class does not
    if kind in IDLE_LAYERS:
        return []
    if kind is layers.Dense:
        weights = ops.convert_to_numpy(layer.kernel)
        biases = ops.convert_to_numpy(layer.bias) if layer.use_bias else np.zeros(layer.units)
        dense = {"weights": weights, "biases": biases}
        return [dense, *steps_of_activation(layer, layer.activation)]
    if kind is layers.BatchNormalization:
        return [affine_of(layer)]
    return steps_of_activation(layer, layer)


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


def steps_of_activation(layer, activation):
    """Return the steps of an activation, a function or a layer, that `layer` is or ends in."""
    kind = type(activation)
    if kind is layers.Activation:
        return steps_of_activation(layer, activation.activation)
    if kind is layers.ReLU and (activation.max_value is not None or activation.threshold != 0):
        raise unknown(layer)
    if kind in (layers.LeakyReLU, layers.ReLU):
        name, parameter = "leaky_relu", float(activation.negative_slope)
    elif kind is layers.ELU:
        name, parameter = "elu", float(activation.alpha)
    else:
        name = getattr(activation, "__name__", None)
        parameter = DEFAULT_PARAMETERS.get(name)
    if name == "linear":
        return []
    if name not in ACTIVATIONS:
        raise unknown(layer)
    return [{"activation": name, "parameter": parameter}]


def unknown(layer):
    """Return an error for a layer that the page cannot run."""
    kind = type(layer).__name__
    activation = getattr(layer, "activation", None)
    if isinstance(layer, layers.Dense) and activation is not keras.activations.linear:
        kind += f" with {getattr(activation, '__name__', type(activation).__name__)}"
    dtype = getattr(layer, "compute_dtype", "float32")  # a bare operation has none
    if dtype != "float32":
        kind += f" in {dtype}"
    return PageError(f"the page does not know the layer {layer.name} ({kind})")


def run(steps, values):
    """Return what steps compute from rows of numbers, as model.js does."""
    for step in steps:
        if "weights" in step:
            values = values @ step["weights"] + step["biases"]
        elif "factors" in step:
            values = values * step["factors"] + step["offsets"]
        else:
            values = ACTIVATIONS[step["activation"]](values, step["parameter"])
    return values


def is_close(ours, expected):
    """Return whether numbers of the page are those of the model."""
    expected = np.asarray(expected, np.float32)
    return np.shape(ours) == expected.shape and np.allclose(
        ours, expected, rtol=TOLERANCE, atol=TOLERANCE
    )


def kl_divergence(z_mean, z_log_sigma_sq):
    """Return the KL divergence of each image's Gaussian from N(0, I), in nats."""
    return -np.sum(1 + z_log_sigma_sq - z_mean**2 - np.exp(z_log_sigma_sq), axis=1) / 2


def check_losses(steps, encoded, x, model):
    """Raise PageError where the page computes pixels or losses of `x` otherwise than the model.

    `encoded`: z_mean and z_log_sigma_sq of `x`, as `read_model` returns them.
    """
    z_mean, z_log_sigma_sq = encoded
    raw = run(steps["decoder"], z_mean)
    name = model.reconstruction_loss
    if name == "squared-error":
        decoded, pixel_losses = raw.clip(0, 1), (raw - x) ** 2 / 2
    else:  # cross-entropy
        decoded, pixel_losses = expit(raw), np.logaddexp(raw, 0) - raw * x
    reconstruction_of_model, kl_of_model = model.loss_terms(x, np.zeros_like(z_mean))
    for what, ours, of_model in (
        ("pixels of a latent code", decoded, model.decode(z_mean)),
        (f"{name} of an image", pixel_losses.sum(axis=1), reconstruction_of_model),
        (
            "KL divergence of an image",
            kl_divergence(z_mean, z_log_sigma_sq),
            kl_of_model,
        ),
    ):
        if not is_close(ours, of_model):
            raise PageError(f"the page computes the {what} otherwise than this model")
