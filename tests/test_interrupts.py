"""Interrupts: Ctrl-C or SIGTERM, wherever it lands, ends the run and leaves the old files whole."""

import re
import signal
import subprocess
import sys

import pytest
from conftest import (
    OUTPUT_FILES,
    SCRIPT,
    contents,
    exit_status,
    finish,
    old_results,
    posix,
    run_python,
    start,
    start_script,
)

import vae_mnist

pytestmark = posix
INTERRUPTED = (130, "vae_mnist.py: interrupted\n")


def wait_for(process, beginning):
    """Reads the output of `process` up to a line that begins so."""
    while not process.stdout.readline().startswith(beginning):
        assert process.poll() is None


# ---- In a process of its own ---------------------------------------------------------------------

SENDS_ITSELF = """
import os, pathlib, runpy, signal, sys
script, *sys.argv = sys.argv[1:]

def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)

class Output:
    def __init__(self, beginning, after_that_line):
        self.beginning, self.after_that_line, self.file = beginning, after_that_line, sys.stdout
    def write(self, text):
        written = self.file.write(text)
        if text.startswith(self.beginning):
            self.after_that_line()
        return written
    def __getattr__(self, name):
        return getattr(self.file, name)

{patch}
runpy.run_path(script, run_name="__main__")
"""
PATCHES = {
    "Ctrl-C after the last epoch": """
sys.stdout = Output("    2 ", interrupt)
""",
    "SIGTERM after the last epoch": """
sys.stdout = Output("    2 ", lambda: interrupt(signal.SIGTERM))
""",
    "Ctrl-C after the evaluation": """
sys.stdout = Output("test loss", interrupt)
""",
    "where exceptions are dropped": """
class Dropped:
    def __del__(self):
        interrupt()

sys.stdout = Output("    2 ", Dropped)
""",
    "where exceptions are turned into others": """
import json
dumps = json.dumps

def failing_dumps(*args, **kwargs):
    try:
        interrupt()
    except BaseException as error:
        raise SystemError("a call returned a result with an exception set") from error
    return dumps(*args, **kwargs)

json.dumps = failing_dumps
""",
    "in the middle of a file": """
write_bytes = pathlib.Path.write_bytes

def half_written(path, content):
    if path.name == "history.csv":
        write_bytes(path, content[:9])
        interrupt()
    return write_bytes(path, content)

pathlib.Path.write_bytes = half_written
""",
    "before the first file is moved": """
replace = os.replace

def interrupted(source, target):
    interrupt()
    return replace(source, target)

os.replace = interrupted
""",
}


def signalled(number, beginning):
    """A run without end, to which a signal is sent after the line that begins so."""

    def run(small_file, directory):
        output = old_results(directory)
        process = start_script("--data", small_file, "--epochs", 1_000_000, "--output-dir", output)
        wait_for(process, beginning)
        process.send_signal(number)
        return finish(process), contents(output)

    return run


def sending_itself(patch):
    """A run that sends itself SIGINT at the place where `patch` puts it."""

    def run(small_file, directory):
        output = old_results(directory)
        program = SENDS_ITSELF.format(patch=patch)
        arguments = ["vae_mnist.py", "--data", small_file, "--epochs", 2, "--output-dir", output]
        return finish(start("-c", program, SCRIPT, *arguments)), contents(output)

    return run


INTERRUPTED_RUNS = {
    "Ctrl-C after the first epoch": signalled(signal.SIGINT, "    1 "),
    "SIGTERM after the fourth epoch": signalled(signal.SIGTERM, "    4 "),
} | {name: sending_itself(patch) for name, patch in PATCHES.items()}
WITHOUT_STANDARD_ERROR = """
sys.stderr = None  # as Python sets it where it is closed
sys.stdout = Output("    2 ", interrupt)
"""

OLD = {name: f"old {name}".encode() for name in OUTPUT_FILES}


@pytest.mark.parametrize("name", INTERRUPTED_RUNS)
def test_an_interrupted_run_ends_in_one_line_and_leaves_the_old_files(name, results):
    (status, _, err), files = results[name].result()
    assert (status, err) == INTERRUPTED
    assert files == OLD  # and no hidden folder either


def test_an_interrupted_run_that_cannot_say_so_ends_all_the_same(results):
    (status, _, err), files = results["without standard error"].result()
    assert (status, err) == (130, "")
    assert files == OLD


def test_a_kill_during_training_leaves_the_old_files(results):
    (status, _, _), files = results["a kill"].result()
    assert status == -signal.SIGKILL
    assert files == OLD


DURING_AN_IMPORT = """
class Finder:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            interrupt({number:d})

sys.meta_path.insert(0, Finder())
"""


def interrupted_import(module, number):
    """A start of the script that sends itself a signal as it imports `module`."""

    def run(small_file, directory):
        patch = DURING_AN_IMPORT.format(module=module, number=number)
        program = SENDS_ITSELF.format(patch=patch)
        return finish(start("-c", program, SCRIPT, "vae_mnist.py", "--help"))

    return run


INTERRUPTED_IMPORTS = {
    "argparse": signal.SIGINT,
    "keras": signal.SIGINT,
    "tensorflow": signal.SIGTERM,
    "matplotlib": signal.SIGINT,
}


@pytest.mark.parametrize(("module", "number"), INTERRUPTED_IMPORTS.items())
def test_a_signal_during_the_imports_ends_them_at_once(module, number, results):
    """Where the program has no line to say yet, the signal itself ends it."""
    assert results[module].result() == (-number, "", "")


# ---- In the process of others --------------------------------------------------------------------


def test_an_ordinary_interrupt_ends_in_the_same_line(monkeypatch, small_file, output, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(vae_mnist, "train", interrupted)
    before = contents(output)
    status = exit_status("--data", small_file, "--output-dir", output)
    assert (status, capsys.readouterr().err) == INTERRUPTED
    assert contents(output) == before


IMPORTING = """
import gc, signal
numbers = (signal.SIGINT, signal.SIGTERM)
handlers = [signal.getsignal(number) for number in numbers]
import vae_mnist
print(handlers == [signal.getsignal(number) for number in numbers], gc.isenabled(),
      gc.get_freeze_count())
"""
IN_A_NOTEBOOK = """
import gc, io, runpy, signal, sys
sys.ps1 = "In [1]: "
script, *sys.argv = sys.argv[1:]
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
stdout, sys.stdout = sys.stdout, io.StringIO()
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as stop:
    assert stop.code == 0
out, sys.stdout = sys.stdout.getvalue(), stdout
assert gc.isenabled()
assert gc.get_freeze_count() == 0
assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
print(out)
"""
AT_THE_PROMPT = """
import gc, signal
print(gc.isenabled(), signal.getsignal(signal.SIGINT).__name__)
"""


def importing(small_file, directory):
    return run_python(IMPORTING)


def in_a_notebook(small_file, directory):
    options = ["--data", small_file, "--epochs", 2, "--output-dir", directory]
    return run_python(IN_A_NOTEBOOK, SCRIPT, "vae_mnist.py", *options)


def at_the_prompt(small_file, directory):
    options = ["--data", small_file, "--epochs", 1, "--output-dir", directory]
    command = [sys.executable, "-i", SCRIPT, *map(str, options)]
    return subprocess.run(command, input=AT_THE_PROMPT, capture_output=True, text=True).stdout


def test_importing_the_script_leaves_the_collector_and_the_signals_alone(results):
    assert results["importing"].result() == "True True 0\n"


def test_run_in_a_notebook_leaves_the_notebook_as_it_was(results):
    """As IPython's %run does it, whose prompts are in sys.ps1 and whose stdout is its own."""
    out = results["in a notebook"].result()
    assert re.findall(r"^    [12] ", out, re.MULTILINE) == ["    1 ", "    2 "]
    assert "\x1b" not in out


def test_the_prompt_after_a_run_with_dash_i_can_be_interrupted(results):
    assert results["at the prompt"].result().endswith("True default_int_handler\n")


BACKGROUND = {
    **INTERRUPTED_RUNS,
    "without standard error": sending_itself(WITHOUT_STANDARD_ERROR),
    "a kill": signalled(signal.SIGKILL, "    2 "),
    **{name: interrupted_import(name, number) for name, number in INTERRUPTED_IMPORTS.items()},
    "importing": importing,
    "in a notebook": in_a_notebook,
    "at the prompt": at_the_prompt,
}
