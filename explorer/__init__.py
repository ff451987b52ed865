"""Makes the page to explore the plane of a VAE's codes: one file of HTML that needs no network.

`make_page` is all that there is to call; template.html is the page without its content.
"""

import base64
import json
from pathlib import Path

import numpy as np

TEMPLATE = Path(__file__).resolve().parent / "template.html"
LAYERS = ("h1", "z_mean", "z_log_sigma_sq", "h2", "reconstruction")
IMAGE_SIZE = 784  # pixels that the page can show
IMAGES = 40  # test images to choose from
TOLERANCE = 1e-4  # between the model's numbers and those of the page


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
    losses,
    reconstruction_loss,
    kl_weight,
    square,
    history=(),
    unfolding=(),
):
    """Returns the page, bytes of HTML.

    `encoder`, `decoder`: the Keras models; `name` of the data set. Of its test images: `images`,
    uint8 [count, 784], `labels` [count], `z_mean` [count, 2], and `losses`, a dict with the means
    of "loss", "reconstruction" and "kl" at the mean codes. `classes`, ascending, have the
    `colours`, "#rrggbb". `square` is half the side of the square to mark.

    `history`: a dict for each epoch with "validation_loss", "validation_reconstruction" and
    "validation_kl"; `unfolding`: the mean codes of the first test images before the training and
    after each epoch. Raises PageError for a model that the page can't run, ValueError for codes
    that are no plane or not those of the images.
    """
    codes = np.reshape(z_mean, (len(labels), 2))
    weights = weights_of(encoder, decoder)
    check_model(weights, encoder, decoder, images[:IMAGES], codes[:IMAGES])
    content = {
        "name": name,
        "reconstructionLoss": reconstruction_loss,
        "klWeight": kl_weight,
        "testLosses": losses,
        "square": square,
        "classes": [str(label) for label in classes],
        "colours": colours,
        "labels": base64_text(np.searchsorted(classes, labels), "<u2"),
        "codes": base64_text(codes, "<f4"),
        "unfolding": unfolding_content(history, unfolding),
        "images": base64_text(images[:IMAGES], "u1"),
        "weights": {path: base64_text(array, "<f4") for path, array in weights.items()},
    }
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")  # no name ends the script
    return TEMPLATE.read_text("utf-8").replace(">null<", f">{text}<", 1).encode()


def base64_text(array, kind):
    """`array` as numbers of a little-endian NumPy type, one after the other, in base64."""
    return base64.b64encode(np.asarray(array, kind).tobytes()).decode()


def weights_of(encoder, decoder):
    """Returns the weights and biases of LAYERS by "layer/kernel" and "layer/bias"."""
    held = {variable.path: variable.numpy() for variable in encoder.variables + decoder.variables}
    paths = [f"{layer}/{part}" for layer in LAYERS for part in ("kernel", "bias")]
    missing = sorted({path.partition("/")[0] for path in paths if path not in held})
    if missing:
        raise PageError(f"the page knows only the original's layers, and {missing[0]} is none")
    return {path: held[path] for path in paths}


def check_model(weights, encoder, decoder, images, codes):
    """Raises PageError where the page's arithmetic differs from the model on a few images."""
    if images.shape[1] != IMAGE_SIZE:
        raise PageError(f"the page shows images of {IMAGE_SIZE} pixels, not {images.shape[1]}")

    def dense(inputs, layer):
        return inputs @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]

    x = images / np.float32(255)
    h1 = np.maximum(dense(x, "h1"), 0)
    h2 = np.maximum(dense(codes, "h2"), 0)
    z_mean, z_log_sigma_sq = encoder(x)
    for part, ours, models in (
        ("encoder", dense(h1, "z_mean"), z_mean),
        ("encoder", dense(h1, "z_log_sigma_sq"), z_log_sigma_sq),
        ("decoder", dense(h2, "reconstruction"), decoder(codes)),
    ):
        if not np.allclose(ours, models, rtol=TOLERANCE, atol=TOLERANCE):
            raise PageError(f"the {part} computes something else than the page would")


def unfolding_content(history, unfolding):
    """How the plane came to be, for the page; None where nothing was kept of a training.

    Codes are whole numbers of 16 bits, in steps of 1/32767 of the largest one: finer than a pixel.
    """
    if len(unfolding) == 0:
        return None
    if len(unfolding) != len(history) + 1:
        raise ValueError("unfolding must hold the codes before the training and after each epoch")
    step = max(np.abs(codes).max() for codes in unfolding) / 32767 or 1.0
    names = ("loss", "reconstruction", "kl")
    return {
        "images": len(unfolding[0]),
        "step": float(step),
        "codes": base64_text(np.rint(np.stack(unfolding) / step), "<i2"),
        "validationLosses": [
            {name: row[f"validation_{name}"] for name in names} for row in history
        ],
    }
