"""Train the same VAE in several ways and print the time that an epoch takes in each.

The contenders take turns, epoch by epoch, each in a process of its own, so that other load on the
machine affects all of them alike. Compare the ratios of the times: the seconds vary more, from one
machine to another and with the other load.
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
    """Return the training images of an .npz file in whole batches, uint8 [count, 784]."""
    with np.load(path, allow_pickle=False) as archive:
        images = archive["x_train"]
    images = images[len(images) // 12 :].reshape(-1, 784)  # the first twelfth is for validation
    return images[: len(images) // batch_size * batch_size]


def work(name, path, batch_size, connection):
    """Run a contender in this process, an epoch for each True that `connection` receives.

    It sends None when the contender is ready, and (seconds, loss) after each epoch. If a module is
    missing, it sends the message of the ImportError and returns.
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
    """Show `text` in a line that the next call overwrites, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)


def measure(path, batch_size, epochs, names):
    """Return a list of (seconds, loss) by contender: the first epoch, then the counted ones.

    A contender that cannot run has the reason, a string, instead of the list.
    """
    context = multiprocessing.get_context("spawn")
    connections, results = {}, {}
    for name in names:
        progress(f"starting {name}")
        connection, child = context.Pipe()
        context.Process(
            target=work, args=(name, path, batch_size, child), daemon=True, name=name
        ).start()
        child.close()  # or a process that fails would not end `recv`
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
    """Print the table for `count` images an epoch and return the medians by contender."""
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
    """Write a bar chart of the medians to a PNG file."""
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
        "--data", type=Path, default=ROOT / "data" / "mnist.npz", help="an .npz file of digits"
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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the contenders' processes log nothing
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
