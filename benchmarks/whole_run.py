"""Run vae_mnist.py and original_program.py in turns and compare wall time and peak memory.

`scaling` runs vae_mnist.py on 1, 2 and 4 times the images and the epochs instead: the time should
be a constant plus a term proportional to both. `parts` prints the time of each part of a run.
`--other` replaces original_program.py by another script with the same options, such as an earlier
version of vae_mnist.py.

Measure in an environment without JAX: TensorFlow imports it if it is installed.
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
THIS = HERE.parent / "vae_mnist.py"
ORIGINAL = HERE / "original_program.py"
# The losses differ: vae_mnist.py prints the mean over the test images, while the original's cost
# has the squared error summed over them.
TEST_LOSS = re.compile(r"^(?:test loss|Result:) .*$", re.MULTILINE)
ENVIRONMENT = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


def run(script, *arguments):
    """Run a script and return its seconds, its peak memory in MB, and its output."""
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
    ):
        command = [sys.executable, str(script), "--output-dir", directory, *map(str, arguments)]
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=ENVIRONMENT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{script} failed:\n{text}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6, text


def compare(arguments):
    """Print the time and memory of both programs, run in turns, and the ratios of the medians."""
    programs = {"this project": THIS, "the other": arguments.other}
    results = {name: [] for name in programs}
    for turn in range(arguments.runs):
        for name, script in programs.items():
            result = run(script, "--data", arguments.data, "--epochs", arguments.epochs)
            results[name].append(result[:2])
            loss = TEST_LOSS.search(result[2]).group()
            print(f"run {turn + 1}, {name}: {result[0]:.2f} s, {result[1]:.0f} MB, {loss}")
    ours, other = (np.median(measured, axis=0) for measured in results.values())
    print(
        f"ratio of medians, this project to {arguments.other}: {ours[0] / other[0]:.2f} of the "
        f"time, {ours[1] / other[1]:.2f} of the memory"
    )


def larger(path, factor, directory):
    """Write the data set of `path` with its training images repeated and return the new path."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive}
    for key in ("x_train", "y_train"):
        arrays[key] = np.concatenate(factor * [arrays[key]])
    np.savez(directory / f"{factor}.npz", **arrays)
    return directory / f"{factor}.npz"


def scale(arguments):
    """Print the time for multiples of the images and epochs, and a straight line fitted to it."""
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
                run(THIS, "--data", paths[factor], "--epochs", times)[0]
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


PARTS = (
    "imports and data",
    "compilation and first epoch",
    "other epochs",
    "codes and accuracy",
    "model and numbers written",
    "figures, page and exit",
)


def ends_of_parts(epochs):
    """Return the beginnings of the lines that a run prints after each of PARTS but the last."""
    return ["", "    1 ", f"{epochs:>5} ", "k-NN accuracy", "wrote"]


def times_of_parts(script, data, epochs):
    """Run a script and return the seconds of each of PARTS; their sum is the process's time."""
    beginnings = ends_of_parts(epochs)
    with tempfile.TemporaryDirectory() as directory:
        options = ["--output-dir", directory, "--data", str(data), "--epochs", str(epochs)]
        command = [sys.executable, str(script), *options]
        ends = [time.perf_counter()]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
            encoding="utf-8",
        )
        for line in process.stdout:
            if beginnings and line.startswith(beginnings[0]):
                ends.append(time.perf_counter())
                del beginnings[0]
        process.wait()
        ends.append(time.perf_counter())
    if process.returncode:
        raise SystemExit(f"{script} failed")
    if beginnings:
        raise SystemExit(f"{script} printed no line that begins with {beginnings[0]!r}")
    return np.diff(ends)


def parts(arguments):
    """Print the time of each part of a run of each program, medians of runs in turns."""
    scripts = [THIS] + ([arguments.other] if arguments.other != ORIGINAL else [])
    seconds = {script: [] for script in scripts}
    for _ in range(arguments.runs):
        for script in scripts:
            seconds[script].append(times_of_parts(script, arguments.data, arguments.epochs))
    for script, rows in seconds.items():
        print(script)
        for name, value in zip(PARTS, np.median(rows, axis=0), strict=True):
            print(f"  {name:29}{value:6.2f} s")
        print(f"  {'the whole process':29}{np.median(np.sum(rows, axis=1)):6.2f} s")


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
        default=HERE.parent / "data" / "mnist.npz",
        help="an .npz file of digits",
    )
    parser.add_argument("--other", type=Path, default=ORIGINAL, help="script to compare with")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of a run")
    parser.add_argument("--runs", type=int, default=3, help="runs of each program")
    arguments = parser.parse_args()
    MEASUREMENTS[arguments.measurement](arguments)


if __name__ == "__main__":
    main()
