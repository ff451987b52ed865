"""Trains the same VAE every way that a user might pick, and prints how long each takes an epoch.

The contenders take turns, epoch by epoch, each in a process of its own, so that a machine that
slows down slows them all. Compare the ratios; the seconds belong to one machine and one hour.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from contenders import CONTENDERS, ROOT

THIS_PROJECT = next(iter(CONTENDERS))


def load_images(path, batch_size):
    """Returns the training images of an .npz file, uint8 [count, 784], those of whole batches."""
    with np.load(path, allow_pickle=False) as archive:
        images = archive["x_train"]
    images = images[len(images) // 12 :].reshape(-1, 784)  # the first twelfth is for validation
    return images[: len(images) // batch_size * batch_size]


def work(name, path, batch_size, connection):
    """In a process: makes a contender, then trains an epoch at every request.

    It answers with seconds and loss, or with the reason why there is no such contender here; first
    with None, when it is ready.
    """
    start = None

    def turn(loss):
        nonlocal start
        connection.send(None if start is None else (time.perf_counter() - start, loss))
        go_on = connection.recv()
        start = time.perf_counter()
        return go_on

    try:
        CONTENDERS[name](load_images(path, batch_size), batch_size, turn)
    except ImportError as error:
        connection.send(str(error))


def progress(text):
    """Shows what is being done, in a line of its own that is overwritten in a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)


def measure(path, batch_size, epochs, names):
    """Returns (seconds and losses of the first epoch and the counted ones) by contender.

    A contender that can't run here has its reason instead.
    """
    context = multiprocessing.get_context("spawn")
    connections, results = {}, {}
    for name in names:
        progress(f"starting {name}")
        connection, child = context.Pipe()
        context.Process(
            target=work, args=(name, path, batch_size, child), daemon=True, name=name
        ).start()
        missing = connection.recv()
        results[name] = missing or []
        if not missing:
            connections[name] = connection
    for epoch in range(epochs + 1):
        for name, connection in connections.items():
            progress(f"epoch {epoch} of {epochs}: {name}")
            connection.send(True)
            results[name].append(connection.recv())
    for connection in connections.values():
        connection.send(False)
    progress("")
    return results


def print_table(results, count):
    """Prints what was measured with `count` images an epoch; returns the medians by contender."""
    medians = {
        name: statistics.median(seconds for seconds, _ in epochs[1:])
        for name, epochs in results.items()
        if not isinstance(epochs, str)
    }
    print(
        f"{'':34}{'s/epoch':>8}{'min':>8}{'max':>8}{'1st - median':>14}{'images/s':>10}"
        f"{'ours/it':>9}{'loss':>8}"
    )
    for name, epochs in results.items():
        if name not in medians:
            print(f"{name:34}not measured: {epochs}")
            continue
        seconds = [seconds for seconds, _ in epochs[1:]]
        loss = epochs[-1][1]
        print(
            f"{name:34}{medians[name]:8.3f}{min(seconds):8.3f}{max(seconds):8.3f}"
            f"{epochs[0][0] - medians[name]:14.2f}{count / medians[name]:10,.0f}"
            f"{medians[THIS_PROJECT] / medians[name]:9.2f}"
            + (f"{loss:8.2f}" if loss is not None else f"{'-':>8}")
        )
    return medians


def draw_chart(medians, path):
    """Writes a bar chart of the medians."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.36 * len(medians) + 0.6), dpi=200, layout="constrained")
    axes = figure.subplots()
    names = list(medians)[::-1]
    colours = ["#3f90da" if name == THIS_PROJECT else "#94a4a2" for name in names]
    bars = axes.barh(names, [medians[name] for name in names], color=colours)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlabel("seconds an epoch, median")
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=ROOT / "data" / "mnist_5k.npz", help="an .npz file of digits"
    )
    parser.add_argument("--epochs", type=int, default=10, help="counted epochs of each contender")
    parser.add_argument("--batch-size", type=int, default=128, help="images a step")
    parser.add_argument("--chart", type=Path, help="write a bar chart to this PNG file")
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="contenders to run"
    )
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # for the contenders' processes
    count = len(load_images(arguments.data, arguments.batch_size))
    names = [name for name in CONTENDERS if name == THIS_PROJECT or name in arguments.only]
    results = measure(arguments.data, arguments.batch_size, arguments.epochs, names)
    print(
        f"{count:,} images an epoch in batches of {arguments.batch_size}; "
        f"{arguments.epochs} counted epochs each, in turns"
    )
    medians = print_table(results, count)
    if arguments.chart:
        draw_chart(medians, arguments.chart)
        print(f"wrote {arguments.chart}")


if __name__ == "__main__":
    main()
