"""What a page holds: the model, latent codes and images of the test set, and the training."""

import base64
import math
import zlib

import keras
import numpy as np
from keras import ops

from .layers import is_close, kl_divergence, read_model
from .page import VERSION, PageError, fill_template

RECORDED_IMAGES = 2000  # test images whose latent codes during training the page shows
IMAGES = 40  # test images to choose from by a button
IMAGE_BYTES = 2_500_000  # of all test images that a click on a dot can take, in base64
STRIP_CLASSES = 10  # of which the strip shows an image, at most
STRIP_IMAGES = 11  # in the strip: one of each class, and one whose neighbours are of another
CANDIDATES = 4  # of each class, of which one comes into the strip
STRIP_EPOCHS = 51  # with these reconstructions, at most
CODES = 200_000  # latent codes of all epochs, at most: a long training has fewer images
SAMPLES = 8  # of the Gaussian of an image
LOSS_NAMES = ("loss", "reconstruction", "kl")  # of the metrics

# Gauss-Hermite quadrature: the expectation over N(0, 1) of a smooth function is a weighted sum.
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
NODE_WEIGHTS = NODE_WEIGHTS / NODE_WEIGHTS.sum()
EPSILONS = np.array([(e1, e2) for e1 in NODES for e2 in NODES], np.float32)
EPSILON_WEIGHTS = np.outer(NODE_WEIGHTS, NODE_WEIGHTS).ravel()


class Recorder(keras.callbacks.Callback):
    """A Keras callback that keeps what the page shows of the training.

    Arguments:
        images: the test images, [count, 784] or [count, 28, 28]: bytes, uint8 from 0 to 255, or
            pixels, floats in [0, 1], which are rounded to bytes.
        labels: their labels [count]. Of the first images of each class more is kept than the codes:
            the page shows some of them at every epoch.
        count: how many of the images are recorded, the first of them.

    Latent codes, Gaussians and reconstructions are kept before the training and after each epoch,
    losses of the validation images after each epoch. Raises TypeError for images of another type,
    and ValueError where the recorder of one model is used for another, or for a training without
    validation images.
    """

    def __init__(self, images, labels, count=RECORDED_IMAGES):
        super().__init__()
        images, labels = to_bytes(images[:count]), labels[:count]
        self.x = images.reshape(len(images), -1) / np.float32(255)
        self.candidates = strip_candidates(np.ravel(labels))
        self.codes = []  # z_mean [count, 2]
        self.log_variances = []  # z_log_sigma_sq of the candidates, [candidates, 2]
        self.strips = []  # their reconstructions, uint8 [candidates, 784]
        self.strip_losses = []  # and reconstruction losses [candidates], in nats
        self.losses = []  # dicts of loss, reconstruction, kl and kl_weight

    def on_train_begin(self, logs=None):
        """Keep the codes before the first epoch; a second training of the model continues them."""
        if not self.codes:
            self.recorded_model = self.model
            self._record()
        elif self.model is not self.recorded_model:
            raise ValueError("make a new Recorder for another model")

    def on_epoch_end(self, epoch, logs=None):
        """Keep codes, Gaussians, reconstructions and losses as they are after this epoch."""
        if "val_loss" not in logs:
            raise ValueError("the page shows losses of validation images: give fit validation_data")
        losses = {name: logs[f"val_{name}"] for name in LOSS_NAMES}
        self._record(losses | {"kl_weight": logs["kl_weight"]})

    def _record(self, losses=None):
        """Keep what the page shows of this moment; it is computed first, as Ctrl-C may come."""
        z_mean, z_log_sigma_sq = (
            ops.convert_to_numpy(part).astype(np.float32)
            for part in self.model.encoder(self.x, training=False)
        )
        pixels = np.nan_to_num(self.model.decode(z_mean[self.candidates]))
        strip = np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)
        if z_mean.shape[1] == 2:  # models of other latent sizes have no page
            strip_losses = expected_losses(self.model, self.x[self.candidates])
        else:
            strip_losses = None
        self.codes.append(z_mean)
        self.log_variances.append(z_log_sigma_sq[self.candidates])
        self.strips.append(strip)
        self.strip_losses.append(strip_losses)
        if losses is not None:
            self.losses.append(losses)


def expected_losses(model, x):
    """Return the reconstruction loss [count] of pixels `x`, expected over their Gaussians."""
    repeated = np.repeat(x, len(EPSILONS), axis=0)
    losses, _ = model.loss_terms(repeated, np.tile(EPSILONS, (len(x), 1)))
    return ops.convert_to_numpy(losses).reshape(len(x), -1) @ EPSILON_WEIGHTS


def to_bytes(images):
    """Return images as uint8 from 0 to 255; floats are pixels in [0, 1]."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
        raise TypeError(
            f"images must be bytes, uint8 from 0 to 255, or floats in [0, 1], not {images.dtype} "
            f"from {images.min():g} to {images.max():g}"
        )
    return np.rint(255 * images).astype(np.uint8)


def strip_candidates(labels):
    """Return the indices of images that may come into the strip: the first of each class."""
    classes = np.unique(labels)[:STRIP_CLASSES]
    firsts = [np.flatnonzero(labels == label)[:CANDIDATES] for label in classes]
    others = np.setdiff1d(np.arange(min(STRIP_IMAGES, len(labels))), np.concatenate(firsts))
    return np.concatenate([*firsts, others])


def choose_strip(candidates, labels, codes, neighbours):
    """Return the places in `candidates` of the images in the strip.

    Of each class the first image that its neighbours vote right, or else its first. Then the other
    images that they vote right, where there are few classes; and last one that they vote wrong.

    Arguments:
        candidates: as `strip_candidates` returns them.
        labels, codes: of all test images, [count] and [count, 2].
        neighbours: how many of the nearest codes vote.
    """
    is_right = np.array([vote(i, labels, codes, neighbours) == labels[i] for i in candidates])
    of_candidates = labels[candidates]
    chosen = []
    for label in np.unique(of_candidates)[:STRIP_CLASSES]:
        places = np.flatnonzero(of_candidates == label)
        chosen.append(places[np.argmax(is_right[places])])  # the first where none is right
    rest = np.setdiff1d(np.arange(len(candidates)), chosen)
    wrong = rest[~is_right[rest]][:1]
    fillers = np.setdiff1d(rest, wrong)[: STRIP_IMAGES - len(wrong) - len(chosen)]
    return np.concatenate([chosen, fillers, wrong]).astype(int)


def vote(number, labels, codes, neighbours):
    """Return the most frequent label of the codes nearest to that of an image, itself left out."""
    distances = np.sum((codes - codes[number]) ** 2, axis=1)
    distances[number] = np.inf
    nearest = np.argsort(distances, kind="stable")[: min(neighbours, len(codes) - 1)]
    found, counts = np.unique(labels[nearest], return_counts=True)
    return found[np.argmax(counts)] if len(found) else None


def make_page(model, data, recorder=None, *, losses, colours, edge, neighbours, collapsed):
    """Return the page, bytes of HTML.

    Arguments:
        model: a VAE with two latent dimensions.
        data: `name`; the test set, `x_test` uint8 [count, pixels] and `y_test` [count]; `classes`,
            ascending.
        recorder: the `Recorder` of the training, where the page is to show it.
        losses: means of the test images' "loss", "reconstruction" and "kl", in nats.
        colours: "#rrggbb" for each class.
        edge: the square from -edge to edge is marked.
        neighbours: of a latent code, whose classes are counted.
        collapsed: whether the encoder's Gaussians show posterior collapse.

    Raises PageError for a model that the page cannot run, and ValueError for a recorder of other
    images than the first of `x_test`.
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
    steps = read_model(model, x)
    z_mean, z_log_sigma_sq = encode(model, data.x_test)
    mean_kl = float(np.mean(kl_divergence(z_mean, z_log_sigma_sq)))
    loss, reconstruction, kl = (losses[name] for name in LOSS_NAMES)
    # The KL divergence is free of noise, so it shows whether `losses` are of the same pixels.
    if not is_close(kl, mean_kl):
        raise PageError(
            "the page encodes pixels that are bytes / 255, and this model encodes others"
        )
    if not is_close(reconstruction + model.kl_weight * kl, loss):
        raise PageError("the page knows no loss but reconstruction + KL weight x KL")
    strip = None
    if recorder is not None and recorder.codes:
        strip = choose_strip(recorder.candidates, data.y_test, z_mean, neighbours)
    order = image_order(len(data.x_test), [] if strip is None else recorder.candidates[strip])
    content = {
        "version": VERSION,
        "name": data.name,
        "noun": "digit" if data.name.lower().startswith("mnist") else "image",
        "side": side,
        "reconstructionLoss": model.reconstruction_loss,
        "klWeight": float(model.kl_weight),
        "testLosses": losses,
        "collapsed": collapsed,
        "edge": edge,
        "neighbours": neighbours,
        "samples": SAMPLES,
        "classes": [str(label) for label in data.classes],
        "colours": list(colours),
        "labels": base64_text(np.searchsorted(data.classes, data.y_test), "<u2"),
        "codes": base64_text(z_mean, "<f4"),
        "imageOrder": order.tolist(),
        "images": base64_text(data.x_test[order], "u1"),
        "allImages": compressed_images(data.x_test),
        "isPaper": is_paper(data.x_test, side),
        "training": training_content(recorder, data.x_test, strip),
        "model": {part: list(map(step_content, steps[part])) for part in steps},
    }
    return fill_template(content)


def image_order(count, first):
    """Return the indices of the test images to choose from: `first`, then the others."""
    return np.concatenate([first, np.setdiff1d(np.arange(min(IMAGES, count)), first)]).astype(int)


def compressed_images(images):
    """Return the first test images, as many as IMAGE_BYTES hold, compressed and in base64."""
    count = len(images)
    while True:
        text = base64.b64encode(zlib.compress(images[:count].tobytes())).decode()
        if len(text) <= IMAGE_BYTES:
            return text
        count = int(0.95 * count * IMAGE_BYTES / len(text))


def is_paper(images, side):
    """Return whether the images are dark ink on light paper: their corners are bright."""
    corners = images[:, [0, side - 1, -side, -1]]
    return bool(corners.mean() > 127)


def encode(model, images):
    """Return z_mean and z_log_sigma_sq, [count, 2], of bytes [count, pixels]."""
    batches = [images[start : start + 1000] for start in range(0, len(images), 1000)]
    codes = [model.encoder(batch / np.float32(255), training=False) for batch in batches]
    return (
        np.concatenate([ops.convert_to_numpy(part) for part in parts])
        for parts in zip(*codes, strict=True)
    )


def training_content(recorder, x_test, strip):
    """Return what was recorded of the training, as JSON can hold it, or None without a training.

    `strip`: the places in `recorder.candidates` of the images in the strip. Codes are whole numbers
    of 16 bits, in steps of 1/32767 of the largest one: finer than a pixel of the screen.
    """
    if strip is None:
        return None
    if not np.array_equal(recorder.x, x_test[: len(recorder.x)] / np.float32(255)):
        raise ValueError("the recorder holds other images than the first of data.x_test")
    count = max(1, min(len(recorder.x), CODES // len(recorder.codes)))
    codes = np.stack([codes_of_epoch[:count] for codes_of_epoch in recorder.codes])
    step = np.abs(codes).max() / 32767 or 1.0
    strip_images = recorder.candidates[strip]
    means = np.stack([codes_of_epoch[strip_images] for codes_of_epoch in recorder.codes])
    epochs = np.unique(np.linspace(0, len(recorder.losses), STRIP_EPOCHS).round().astype(int))
    strips = np.stack([recorder.strips[epoch][strip] for epoch in epochs])
    return {
        "images": count,
        "step": float(step),
        "codes": base64_text(np.rint(codes / step), "<i2"),
        "stripMeans": base64_text(means, "<f4"),
        "stripLogVariances": base64_text(np.stack(recorder.log_variances)[:, strip], "<f4"),
        "stripLosses": base64_text(np.stack(recorder.strip_losses)[:, strip], "<f4"),
        "stripImages": strip_images.tolist(),
        "stripEpochs": epochs.tolist(),
        "strips": base64_text(strips, "u1"),
        "validationLosses": recorder.losses,
    }


def step_content(step):
    """Return a step of the model as JSON can hold it."""
    return {
        name: base64_text(value, "<f4") if isinstance(value, np.ndarray) else value
        for name, value in step.items()
    }


def base64_text(array, kind):
    """Return `array` as numbers of a little-endian NumPy type, one after the other, in base64."""
    return base64.b64encode(np.asarray(array, kind).tobytes()).decode()
