"""Runs the whole program and the original way in turns, and compares wall time and peak memory.

`scaling` runs the program on 1, 2 and 4 times the images and the epochs instead: the time should be
a constant plus a straight line. `parts` prints what that constant is made of.

Measure in an environment without JAX: TensorFlow imports it where it finds it.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PROGRAMS = {
    "this project": HERE.parent / "vae_mnist.py",
    "the original way": HERE / "original_program.py",
}


def run(script, *arguments):
    """Runs a script; returns its seconds, its peak memory in MB, and its output."""
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, str(script), "--output-dir", directory, *map(str, arguments)]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{script} failed:\n{text}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6, text


def compare(arguments):
    """Prints medians of time and memory of both programs, run in turns."""
    results = {name: [] for name in PROGRAMS}
    for turn in range(arguments.runs):
        for name, script in PROGRAMS.items():
            result = run(script, "--data", arguments.data, "--epochs", arguments.epochs)
            results[name].append(result[:2])
            test = re.findall(r"^test \w+ [\d.]+", result[2], re.MULTILINE)[0]
            print(f"run {turn + 1}, {name}: {result[0]:.1f} s, {result[1]:.0f} MB, {test}")
    ours, original = (np.median(measured, axis=0) for measured in results.values())
    print(
        f"ratio of medians, this project to the original way: {ours[0] / original[0]:.2f} of the "
        f"time, {ours[1] / original[1]:.2f} of the memory"
    )


def larger(path, factor, directory):
    """Writes the data set of `path` with its training images repeated; returns the new path."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive}
    for key in ("x_train", "y_train"):
        arrays[key] = np.concatenate(factor * [arrays[key]])
    np.savez(directory / f"{factor}.npz", **arrays)
    return directory / f"{factor}.npz"


def scale(arguments):
    """Prints seconds for multiples of the images and epochs, and the straight line through them."""
    factors = (1, 2, 4)
    with tempfile.TemporaryDirectory() as directory:
        paths = {factor: larger(arguments.data, factor, Path(directory)) for factor in factors}
        with np.load(paths[1]) as archive:
            count = len(archive["y_train"])
        epochs = max(1, arguments.epochs // 10)
        settings = [(factor, epochs) for factor in factors]
        settings += [(1, factor * epochs) for factor in factors[1:]]
        work, seconds = [], []
        for factor, times in settings:
            taken = [
                run(PROGRAMS["this project"], "--data", paths[factor], "--epochs", times)[0]
                for _ in range(arguments.runs)
            ]
            work.append(factor * times * count)
            seconds.append(statistics.median(taken))
            print(f"{factor * count:,} images, {times} epochs: {seconds[-1]:.2f} s")
    slope, constant = np.polyfit(work, seconds, 1)
    deviation = np.abs(np.polyval([slope, constant], work) - seconds).max()
    print(
        f"constant {constant:.1f} s and {1e6 * slope:.2f} s a million images; the largest "
        f"deviation from that line is {deviation:.2f} s"
    )


def parts(arguments):
    """Prints what the constant is made of, from one run in this process."""
    start = time.perf_counter()
    sys.path.insert(0, str(HERE.parent))
    import vae_mnist

    imports = time.perf_counter() - start
    seconds = {}

    def timed(name, function):
        def call(*args, **kwargs):
            start = time.perf_counter()
            result = function(*args, **kwargs)
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            return result

        return call

    figures = [name for name in dir(vae_mnist) if name.endswith("_figure")] + ["png"]
    others = ["load_data", "train", "evaluate", "neighbour_accuracy", "write_files"]
    for name in figures + others:
        setattr(vae_mnist, name, timed(name, getattr(vae_mnist, name)))
    epoch_ends = []
    vae_mnist.progress_printer = lambda epochs: lambda row: epoch_ends.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        vae_mnist.main(["--data", str(arguments.data), "--epochs", "6", "--output-dir", directory])
        total = time.perf_counter() - start
    epoch = statistics.median(np.diff(epoch_ends))
    measured = {
        "imports": imports,
        "reading the data": sum(seconds["load_data"]),
        "compilation": sum(seconds["train"]) - 6 * epoch,
        "test loss": seconds["evaluate"][-1],
        "accuracy": sum(seconds["neighbour_accuracy"]),
        "figures": sum(sum(seconds.get(name, [])) for name in figures),
        "writing": sum(seconds["write_files"]),
    }
    measured["the rest"] = imports + total - 6 * epoch - sum(measured.values())
    for name, value in measured.items():
        print(f"{name:18}{value:6.2f} s")


MEASUREMENTS = {"comparison": compare, "scaling": scale, "parts": parts}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "measurement", nargs="?", choices=MEASUREMENTS, default="comparison", help="what to measure"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=HERE.parent / "data" / "mnist_5k.npz",
        help="an .npz file of digits",
    )
    parser.add_argument("--epochs", type=int, default=50, help="epochs of a run")
    parser.add_argument("--runs", type=int, default=3, help="runs of each program")
    arguments = parser.parse_args()
    MEASUREMENTS[arguments.measurement](arguments)


if __name__ == "__main__":
    main()
