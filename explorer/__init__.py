"""Make the page to explore the latent space of a VAE: one HTML file that needs no network.

`Recorder` is a Keras callback that keeps what the page shows of the training; `make_page` puts
style.css, model.js, page.js and the content into template.html. The page runs the model by itself,
as a list of steps that are read off its layers. What these compute is compared with the model
before the page is made.
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
STRIP_IMAGES = 10  # of them, whose reconstructions during training are shown
STRIPS = 51  # epochs with these reconstructions, at most
UNFOLDING_CODES = 200_000  # latent codes of all epochs, at most: a long training has fewer images
COLLAPSED_KL = 0.05  # nats per image; a KL divergence below it is posterior collapse
LEVELS = f"{string.ascii_uppercase}{string.ascii_lowercase}{string.digits}+/"  # of grey, 64
TEMPLATE_NOTICE = "<p>This is the template of a page: python vae_mnist.py fills it.</p>"
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


class PageError(ValueError):
    """The page cannot run this model; the text says why."""


class Recorder(keras.callbacks.Callback):
    """A Keras callback that keeps what the page shows of the training.

    Arguments:
        images: the first test images, uint8 [count, 784] or [count, 28, 28].
        labels: their labels [count]. Reconstructions are kept for ten of the first 40 images: the
            first of each class, then the others in order.

    Latent codes and reconstructions are kept before the training and after each epoch, losses of
    the validation images after each epoch. Raises TypeError for images of another type, and
    ValueError where the recorder of one model is used for another.
    """

    def __init__(self, images, labels):
        super().__init__()
        images = np.asarray(images)
        if images.dtype != np.uint8:
            raise TypeError(f"images must be uint8, from 0 to 255, not {images.dtype}")
        self.x = images.reshape(len(images), -1) / np.float32(255)
        _, firsts = np.unique(np.ravel(labels)[:IMAGES], return_index=True)
        others = np.setdiff1d(np.arange(min(len(images), IMAGES)), firsts)
        self.strip_images = np.concatenate([firsts, others])[:STRIP_IMAGES]
        self.codes = []  # z_mean [count, 2]
        self.strips = []  # pixels [10, 784] in [0, 1]
        self.losses = []  # dicts of loss, reconstruction and kl

    def on_train_begin(self, logs=None):
        """Keep the codes before the first epoch; a second training of the model continues them."""
        if not self.codes:
            self.recorded_model = self.model
            self._record()
        elif self.model is not self.recorded_model:
            raise ValueError("make a new Recorder for another model")

    def on_epoch_end(self, epoch, logs=None):
        """Keep codes, reconstructions and losses as they are after this epoch."""
        self._record()
        self.losses.append({name: logs[f"val_{name}"] for name in ("loss", "reconstruction", "kl")})

    def _record(self):
        z_mean, _ = self.model.encoder(self.x, training=False)
        self.codes.append(ops.convert_to_numpy(z_mean).astype(np.float32))
        self.strips.append(self.model.decode_pixels(self.codes[-1][self.strip_images]))


def make_page(model, data, recorder=None, *, losses=None, colours, edge):
    """Return the page, bytes of HTML.

    Arguments:
        model: a VAE with two latent dimensions.
        data: `name`; the test set, `x_test` uint8 [count, pixels] and `y_test` [count]; `classes`,
            ascending.
        recorder: the `Recorder` of the training, where the page is to show it.
        losses: means of loss, reconstruction and KL divergence of the test images, in nats. By
            default they are evaluated, with a fixed seed.
        colours: "#rrggbb" for each class.
        edge: the square from -edge to edge is marked.

    Raises PageError for a model that the page cannot run.
    """
    if model.latent_size != 2:
        raise PageError(
            f"the page shows two latent dimensions, and the model has {model.latent_size}"
        )
    side = math.isqrt(data.x_test.shape[1])
    if side**2 != data.x_test.shape[1]:
        raise PageError(
            f"the page shows square images, not images of {data.x_test.shape[1]} pixels"
        )
    x = data.x_test[:IMAGES] / np.float32(255)
    steps = read_model(model.encoder, model.decoder, x)
    check_losses(steps, x, model)
    z_mean, evaluated = evaluate(model, data.x_test)
    loss, reconstruction, kl = evaluated if losses is None else losses
    # The KL divergence is free of noise, so it shows whether `losses` are of the same pixels.
    if not is_close(kl, evaluated[2]):
        raise PageError(
            "the page encodes pixels that are bytes / 255, and this model encodes others"
        )
    if not is_close(reconstruction + model.kl_weight * kl, loss):
        raise PageError("the page knows no loss but reconstruction + KL weight x KL")
    content = {
        "name": data.name,
        "side": side,
        "reconstructionLoss": model.reconstruction_loss,
        "klWeight": float(model.kl_weight),
        "testLosses": {"loss": loss, "reconstruction": reconstruction, "kl": kl},
        "collapsed": bool(kl < COLLAPSED_KL),
        "edge": edge,
        "classes": [str(label) for label in data.classes],
        "colours": colours,
        "labels": base64_text(np.searchsorted(data.classes, data.y_test), "<u2"),
        "codes": base64_text(z_mean, "<f4"),
        "unfolding": unfolding_content(recorder),
        "images": base64_text(data.x_test[:IMAGES], "u1"),
        "model": {part: list(map(step_content, steps[part])) for part in steps},
    }
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")  # "</script>" would end it
    return fill_template(text)


def evaluate(model, images):
    """Return z_mean [count, 2] of bytes [count, pixels], and the means of their losses."""
    rng = np.random.default_rng(0)
    codes, terms = [], []
    for start in range(0, len(images), 1000):
        x = images[start : start + 1000] / np.float32(255)
        z_mean, _ = model.encoder(x, training=False)
        codes.append(ops.convert_to_numpy(z_mean))
        terms.append(model.loss_terms(x, rng.standard_normal((len(x), 2), np.float32)))
    reconstruction, kl = (
        float(np.mean(np.concatenate(parts))) for parts in zip(*terms, strict=True)
    )
    return np.concatenate(codes), (reconstruction + float(model.kl_weight) * kl, reconstruction, kl)


def fill_template(content):
    """Return template.html with its style, its program and `content`, a text of JSON."""
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
    """Return `array` as numbers of a little-endian NumPy type, one after the other, in base64."""
    return base64.b64encode(np.asarray(array, kind).tobytes()).decode()


def unfolding_content(recorder):
    """Return the latent codes during training, as JSON can hold them, or None without a training.

    Codes are whole numbers of 16 bits, in steps of 1/32767 of the largest one: finer than a pixel
    of the screen. Pixels are letters, one for each of 64 levels of grey.
    """
    if recorder is None or not recorder.codes:
        return None
    count = max(1, min(len(recorder.x), UNFOLDING_CODES // len(recorder.codes)))
    codes = np.stack([codes_of_epoch[:count] for codes_of_epoch in recorder.codes])
    step = np.abs(codes).max() / 32767 or 1.0
    epochs = np.unique(np.linspace(0, len(recorder.losses), STRIPS).round().astype(int))
    strips = np.stack([recorder.strips[epoch] for epoch in epochs])
    levels = np.rint(63 * strips).astype(int)
    return {
        "images": count,
        "step": float(step),
        "codes": base64_text(np.rint(codes / step), "<i2"),
        "stripEpochs": epochs.tolist(),
        "stripImages": recorder.strip_images.tolist(),
        "levels": LEVELS,
        "strips": "".join(np.array(list(LEVELS))[levels.ravel()]),
        "validationLosses": recorder.losses,
    }


# ---- The model, as the page runs it --------------------------------------------------------------
# As a list of steps: {"weights", "biases"} is a dense layer without its activation, {"activation",
# "parameter"} an activation, {"factors", "offsets"} what a batch normalization does after training.


def read_model(encoder, decoder, x):
    """Return the steps of the encoder, "shared", "mean", "logVariance", and of the "decoder".

    They are compared with the model for pixels `x` [count, pixels] and their latent codes. Raises
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

    corners = [(-3, -3), (3, -3), (-3, 3), (3, 3)]
    codes = np.concatenate([z_mean, np.array(corners, np.float32)])
    (output,) = outputs_of(decoder, "decoder")
    steps, raw = read_layers(layers_to(output), codes)
    if not is_close(raw, decoder(codes, training=False)):
        raise PageError("the decoder computes something else than its layers, and so than the page")
    return {"shared": shared, "mean": mean, "logVariance": log_variance, "decoder": steps}


def outputs_of(model, part):
    """Return the output tensors of a functional or sequential model."""
    if not getattr(model, "outputs", None):
        raise PageError(f"the page reads functional and sequential models, and the {part} is none")
    return model.outputs


def layers_to(tensor):
    """Return the layers that lead to a tensor of a model, one after the other."""
    layer, node, _ = tensor._keras_history
    inputs = layer._inbound_nodes[node].input_tensors
    if not inputs:
        return []
    if len(inputs) > 1:
        raise unknown(layer)
    nested = getattr(layer, "outputs", None)
    return layers_to(inputs[0]) + (layers_to(nested[0]) if nested else [layer])


def read_layers(chain, values):
    """Return the steps of layers one after the other, and what these compute from `values`.

    Each layer is compared with its steps; PageError names the first that computes something else.
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


def check_losses(steps, x, model):
    """Raise PageError where the page computes pixels or losses of `x` otherwise than the model."""
    hidden = run(steps["shared"], x)
    z_mean, z_log_sigma_sq = run(steps["mean"], hidden), run(steps["logVariance"], hidden)
    raw = run(steps["decoder"], z_mean)
    name = model.reconstruction_loss
    if name == "squared-error":
        decoded, pixel_losses = raw.clip(0, 1), (raw - x) ** 2 / 2
    elif name == "cross-entropy":
        decoded, pixel_losses = expit(raw), np.logaddexp(raw, 0) - raw * x
    else:
        raise PageError(f"the page does not know the loss {getattr(name, '__name__', name)}")
    kl = -np.sum(1 + z_log_sigma_sq - z_mean**2 - np.exp(z_log_sigma_sq), axis=1) / 2
    reconstruction_of_model, kl_of_model = model.loss_terms(x, np.zeros_like(z_mean))
    for what, ours, of_model in (
        ("pixels of a latent code", decoded, model.decode_pixels(z_mean)),
        (f"{name} of an image", pixel_losses.sum(axis=1), reconstruction_of_model),
        ("KL divergence of an image", kl, kl_of_model),
    ):
        if not is_close(ours, of_model):
            raise PageError(f"the page computes the {what} otherwise than this model")


def step_content(step):
    """Return a step as JSON can hold it."""
    return {
        name: base64_text(value, "<f4") if isinstance(value, np.ndarray) else value
        for name, value in step.items()
    }
