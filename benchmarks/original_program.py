"""Run the program of the book's listing, written for tf.compat.v1; `whole_run.py` measures it.

It trains a TensorFlow 1 graph with the listing's cost through a session and feed_dict, prints what
the listing prints, and draws the same figures. They are written to files instead of shown, and an
epoch drops the incomplete last batch.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from original import build_original, v1
from scipy.stats import norm

MNIST = Path(__file__).resolve().parent.parent / "data" / "mnist.npz"
BATCH_SIZE = 128
DISPLAY_STEP = 3


def load(path):
    """Return training images, test images and test labels; pixels are float32 in [0, 1]."""
    with np.load(path, allow_pickle=False) as archive:
        x_train, x_test = (
            archive[key].reshape(-1, 784).astype(np.float32) / 255 for key in ("x_train", "x_test")
        )
        return x_train[len(x_train) // 12 :], x_test, archive["y_test"]


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=MNIST, help="an .npz file of digits")
    parser.add_argument("--epochs", type=int, default=50, help="passes over the training images")
    parser.add_argument(
        "--output-dir", type=Path, default=Path("outputs", "original"), help="for the figures"
    )
    arguments = parser.parse_args(argv)

    x_train, x_test, y_test = load(arguments.data)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    original = build_original()
    rng = np.random.default_rng()
    with v1.Session(graph=original.graph) as session:
        with original.graph.as_default():
            session.run(v1.global_variables_initializer())
        for epoch in range(arguments.epochs):
            order = rng.permutation(len(x_train))
            for step in range(len(x_train) // BATCH_SIZE):
                batch = x_train[order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]]
                _, cost = session.run([original.train, original.cost], {original.x: batch})
            if epoch % DISPLAY_STEP == 0:  # the cost of the last batch
                print(f"Epoch: {epoch + 1:04d} cost= {cost:.9f}", flush=True)
        # The squared error is summed over all test images, and only the KL divergence is a mean.
        print("Result:", session.run(original.cost, {original.x: x_test}), flush=True)

        reconstruction = session.run(original.reconstruction, {original.x: x_test[:10]})
        figure, rows = plt.subplots(2, 10, figsize=(8.3, 1.7))
        for axes, image in zip(rows.flat, [*x_test[:10], *reconstruction], strict=True):
            axes.imshow(image.reshape(28, 28))
        figure.savefig(arguments.output_dir / "reconstructions.png", dpi=200)

        z = session.run(original.z, {original.x: x_test})
        figure = plt.figure(figsize=(6.6, 5.8))
        plt.scatter(z[:, 0], z[:, 1], c=y_test, s=4)
        plt.colorbar()
        figure.savefig(arguments.output_dir / "latent_scatter.png", dpi=200)

        # The lowest z_2 is in the top row, as in the listing; the port turns the rows over.
        quantiles = norm.ppf(np.linspace(0.05, 0.95, 15))
        canvas = np.empty((15 * 28, 15 * 28))
        for row, z_2 in enumerate(quantiles):
            for column, z_1 in enumerate(quantiles):
                digit = session.run(original.reconstruction, {original.z: [[z_1, z_2]]})
                canvas[28 * row : 28 * (row + 1), 28 * column : 28 * (column + 1)] = digit.reshape(
                    28, 28
                )
        figure = plt.figure(figsize=(6.6, 6.6))
        plt.imshow(canvas, cmap="gray")
        figure.savefig(arguments.output_dir / "manifold.png", dpi=200)


if __name__ == "__main__":
    main()
