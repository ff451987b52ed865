"""Makes the page to explore the plane of a VAE's codes: one file of HTML that needs no network.

`make_page` is all that there is to call. It puts style.css, model.js, page.js and the content into
template.html. The page runs the model by itself, as a list of steps that are read off its layers:
what they compute is held against the model before the page is made.
"""

import base64
import itertools
import json
import math
import string
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from scipy.special import erf, expit

FOLDER = Path(__file__).resolve().parent
IMAGES = 40  # test images to choose from
STRIP_IMAGES = 10  # of them are shown as the decoder painted them while it learned
STRIPS = 51  # epochs of which the page has that, at most
UNFOLDING_CODES = 200_000  # codes of all epochs, at most: of a long training those of fewer images
LEVELS = f"{string.ascii_uppercase}{string.ascii_lowercase}{string.digits}+/"  # of grey, 64
TEMPLATE_NOTICE = "<p>This is the template of a page: python vae_mnist.py fills it.</p>"
TOLERANCE = 1e-4  # between the model's numbers and those of the page

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
IDLE_LAYERS = (  # outside training they do nothing to rows of numbers
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.Flatten,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
)


class PageError(ValueError):
    """The page can't run this model; the text says why."""


def make_page(
    encoder,
    decoder,
    *,
    name,
    images,
    labels,
    classes,
    colours,
    z_mean,
    pixels,
    image_losses,
    losses,
    reconstruction_loss,
    kl_weight,
    edge,
    collapsed=False,
    history=(),
    unfolding=(),
):
    """Returns the page, bytes of HTML.

    `encoder`, `decoder`: the Keras models; `name` of the data set. Of its test images: `images`,
    uint8 [count, pixels], `labels` [count] and `z_mean` [count, 2]; `losses`, a dict with the means
    of "loss", "reconstruction" and "kl" at these codes; and, for the first 40, `pixels` in [0, 1]
    decoded from the codes and `image_losses`, reconstruction and KL of each. `classes`, ascending,
    have the `colours`, "#rrggbb". The square from -`edge` to `edge` is marked. `collapsed`: whether
    the code tells nothing.

    `history`: a dict for each epoch with "validation_loss", "validation_reconstruction" and
    "validation_kl"; `unfolding`: before the training and after each epoch the mean codes of the
    first test images, and pixels in [0, 1] decoded from the first ten of these. Raises PageError
    for a model that the page can't run, ValueError for codes that are no plane or not those of the
    images.
    """
    codes = np.reshape(z_mean, (len(labels), 2))
    side = math.isqrt(images.shape[1])
    if side**2 != images.shape[1]:
        raise PageError(f"the page shows square images, and {images.shape[1]} pixels make none")
    x = images[:IMAGES] / np.float32(255)
    model = read_model(encoder, decoder, x, codes[:IMAGES])
    check_losses(model, x, reconstruction_loss, pixels, image_losses)
    if not is_close(losses["reconstruction"] + kl_weight * losses["kl"], losses["loss"]):
        raise PageError("the page knows no loss but reconstruction + KL weight x KL")
    content = {
        "name": name,
        "side": side,
        "reconstructionLoss": reconstruction_loss,
        "klWeight": kl_weight,
        "testLosses": losses,
        "collapsed": collapsed,
        "edge": edge,
        "classes": [str(label) for label in classes],
        "colours": colours,
        "labels": base64_text(np.searchsorted(classes, labels), "<u2"),
        "codes": base64_text(codes, "<f4"),
        "unfolding": unfolding_content(history, unfolding),
        "images": base64_text(images[:IMAGES], "u1"),
        "model": {part: [step_content(step) for step in steps] for part, steps in model.items()},
    }
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")  # no name ends the script
    return fill_template(text)


def fill_template(content):
    """Returns template.html with its style, its program and `content`, a text of JSON."""
    template, style, model, page = (
        (FOLDER / name).read_text("utf-8")
        for name in ("template.html", "style.css", "model.js", "page.js")
    )
    scripts = (
        f'<script type="application/json" id="content">{content}</script>\n'
        f'<script>\n"use strict";\n\n{model}\n{page}</script>'
    )
    before, _, after = template.partition(TEMPLATE_NOTICE)
    before = before.replace("<style></style>", f"<style>\n{style}</style>")
    return f"{before}{scripts}{after}".encode()


def base64_text(array, kind):
    """`array` as numbers of a little-endian NumPy type, one after the other, in base64."""
    return base64.b64encode(np.asarray(array, kind).tobytes()).decode()


def unfolding_content(history, unfolding):
    """How the plane came to be, for the page; None where nothing was kept of a training.

    Codes are whole numbers of 16 bits, in steps of 1/32767 of the largest one: finer than a pixel
    of the screen. Pixels are letters, one for each of 64 levels of grey.
    """
    if len(unfolding) == 0:
        return None
    if len(unfolding) != len(history) + 1:
        raise ValueError("unfolding must hold the codes before the training and after each epoch")
    codes, pixels = zip(*unfolding, strict=True)
    count = max(1, min(len(codes[0]), UNFOLDING_CODES // len(codes)))
    codes = np.stack([codes_of_epoch[:count] for codes_of_epoch in codes])
    step = np.abs(codes).max() / 32767 or 1.0
    epochs = np.unique(np.linspace(0, len(history), STRIPS).round().astype(int))
    strips = np.stack([pixels[epoch][:STRIP_IMAGES] for epoch in epochs])
    levels = np.rint(63 * strips).astype(int)
    names = ("loss", "reconstruction", "kl")
    return {
        "images": count,
        "step": float(step),
        "codes": base64_text(np.rint(codes / step), "<i2"),
        "stripEpochs": epochs.tolist(),
        "levels": LEVELS,
        "strips": "".join(np.array(list(LEVELS))[levels.ravel()]),
        "validationLosses": [
            {name: row[f"validation_{name}"] for name in names} for row in history
        ],
    }


# ---- The model, as the page runs it --------------------------------------------------------------
# As a list of steps: {"weights", "biases"} is a dense layer without its activation, {"activation",
# "parameter"} an activation, {"factors", "offsets"} what a batch normalization does after training.


def read_model(encoder, decoder, x, codes):
    """Returns the steps of the encoder, "shared", "mean", "logVariance", and of the "decoder".

    They are held against the model for pixels `x` [count, pixels] and their mean `codes`. Raises
    PageError.
    """
    to_mean, to_log_variance = (layers_to(output) for output in outputs_of(encoder, "encoder"))
    pairs = zip(to_mean, to_log_variance, strict=False)
    count = len(list(itertools.takewhile(lambda pair: pair[0] is pair[1], pairs)))
    shared, hidden = read_layers(to_mean[:count], x)
    mean, z_mean = read_layers(to_mean[count:], hidden)
    log_variance, z_log_sigma_sq = read_layers(to_log_variance[count:], hidden)
    if not is_close([z_mean, z_log_sigma_sq], encoder(x, training=False)):
        raise PageError("the encoder computes something else than its layers, and so than the page")
    if not is_close(z_mean, codes):
        raise PageError("the page encodes bytes / 255, and the codes of this model are others")

    corners = [(-3, -3), (3, -3), (-3, 3), (3, 3)]
    codes = np.concatenate([codes, np.array(corners, np.float32)])
    (output,) = outputs_of(decoder, "decoder")
    steps, raw = read_layers(layers_to(output), codes)
    if not is_close(raw, decoder(codes, training=False)):
        raise PageError("the decoder computes something else than its layers, and so than the page")
    return {"shared": shared, "mean": mean, "logVariance": log_variance, "decoder": steps}


def outputs_of(model, part):
    """Returns the output tensors of a functional or sequential model."""
    if not getattr(model, "outputs", None):
        raise PageError(f"the page reads functional and sequential models, and the {part} is none")
    return model.outputs


def layers_to(tensor):
    """Returns the layers that lead to a tensor of a model, one after the other."""
    layer, node, _ = tensor._keras_history
    inputs = layer._inbound_nodes[node].input_tensors
    if not inputs:
        return []
    if len(inputs) > 1:
        raise unknown(layer)
    nested = getattr(layer, "outputs", None)
    return layers_to(inputs[0]) + (layers_to(nested[0]) if nested else [layer])


def read_layers(chain, values):
    """Returns the steps of layers one after the other, and what these make of `values`.

    Each layer is held against its steps; PageError names the first that does something else.
    """
    steps = []
    for layer in chain:
        of_layer = steps_of(layer)
        expected = layer(values, training=False)
        values = run(of_layer, values)
        if not is_close(values, expected):
            raise unknown(layer)
        steps += of_layer
    return steps, values


def steps_of(layer):
    """Returns the steps of a layer, or raises PageError."""
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
    """The step of a batch normalization: after training it has constants for each number."""
    mean, variance = normalization.moving_mean, normalization.moving_variance
    factors = 1 / np.sqrt(ops.convert_to_numpy(variance) + normalization.epsilon)
    if normalization.scale:
        factors = factors * ops.convert_to_numpy(normalization.gamma)
    offsets = -factors * ops.convert_to_numpy(mean)
    if normalization.center:
        offsets = offsets + ops.convert_to_numpy(normalization.beta)
    return {"factors": factors, "offsets": offsets}


def steps_of_activation(layer, activation):
    """Returns the steps of an activation, a function or a layer, that `layer` is or ends in."""
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
    """An error for a layer that the page can't run."""
    kind = type(layer).__name__
    activation = getattr(layer, "activation", None)
    if isinstance(layer, layers.Dense) and activation is not keras.activations.linear:
        kind += f" with {getattr(activation, '__name__', type(activation).__name__)}"
    return PageError(f"the page does not know the layer {layer.name} ({kind})")


def run(steps, values):
    """What steps make of numbers, [count, inputs] -> [count, outputs]; as in model.js."""
    for step in steps:
        if "weights" in step:
            values = values @ step["weights"] + step["biases"]
        elif "factors" in step:
            values = values * step["factors"] + step["offsets"]
        else:
            values = ACTIVATIONS[step["activation"]](values, step["parameter"])
    return values


def is_close(ours, expected):
    """Whether numbers of the page are those of the model."""
    expected = np.asarray(expected)
    return np.shape(ours) == expected.shape and np.allclose(
        ours, expected, rtol=TOLERANCE, atol=TOLERANCE
    )


def check_losses(model, x, reconstruction_loss, pixels, image_losses):
    """Raises PageError where what the page makes of `x` by the mean codes is not the model's."""
    hidden = run(model["shared"], x)
    z_mean, z_log_sigma_sq = run(model["mean"], hidden), run(model["logVariance"], hidden)
    raw = run(model["decoder"], z_mean)
    if reconstruction_loss == "squared-error":
        decoded, pixel_losses = raw.clip(0, 1), (raw - x) ** 2 / 2
    elif reconstruction_loss == "cross-entropy":
        decoded, pixel_losses = expit(raw), np.logaddexp(raw, 0) - raw * x
    else:
        raise PageError(f"the page does not know the loss {reconstruction_loss}")
    kl = -np.sum(1 + z_log_sigma_sq - z_mean**2 - np.exp(z_log_sigma_sq), axis=1) / 2
    for name, ours, models in (
        ("pixels of a code", decoded, pixels),
        (f"{reconstruction_loss} of an image", pixel_losses.sum(axis=1), image_losses[0]),
        ("KL divergence of an image", kl, image_losses[1]),
    ):
        if not is_close(ours, models):
            raise PageError(f"the page computes the {name} otherwise than this model")


def step_content(step):
    """A step as JSON can hold it."""
    return {
        name: base64_text(value, "<f4") if isinstance(value, np.ndarray) else value
        for name, value in step.items()
    }
