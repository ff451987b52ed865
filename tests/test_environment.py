"""The script in other surroundings: packages, backends, notebooks, locales."""

import json
import os
import re
import subprocess
import sys

import keras
import pytest
from helpers import ROOT, SCRIPT, finish, start


def test_keras_runs_on_tensorflow_whatever_the_user_has_set():
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert keras.backend.backend() == "tensorflow"


# Stand-ins for the packages, which pip cannot install in several versions beside each other.
STAND_INS = """
import os, runpy, sys
from unittest.mock import MagicMock

names = "keras tensorflow numpy matplotlib matplotlib.figure scipy scipy.spatial scipy.special"
for name in names.split():
    sys.modules[name] = MagicMock(__name__=name, __version__="99.0")
keras = sys.modules["keras"]
keras.backend.backend.return_value = "tensorflow"
"""
SURROUNDINGS = {
    "Keras 2": ("keras.__version__ = '2.15.0'", "keras 2.15.0 is too old; see requirements.txt"),
    "TensorFlow 2.10": (
        "sys.modules['tensorflow'].__version__ = '2.10.1'",
        "tensorflow 2.10.1 is too old; see requirements.txt",
    ),
    "Keras on JAX": (
        "keras.backend.backend.return_value = 'jax'",
        "Keras already runs on jax; import vae_mnist before keras",
    ),
    "Python 3.9": (
        "sys.version_info, sys.version = (3, 9, 18), '3.9.18 (main)'",
        "Python 3.9.18 is too old; use 3.10 or later",
    ),
    "a missing package": ("sys.modules['scipy'] = None; del sys.modules['scipy.spatial']", "scipy"),
}


@pytest.mark.parametrize(("change", "message"), SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_unfit_packages_end_the_import_or_the_program_in_one_line(change, message):
    as_module = "import vae_mnist"
    as_program = f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    processes = [
        start("-c", f"{STAND_INS}\n{change}\n{code}", PYTHONPATH=str(ROOT))
        for code in (as_module, as_program)
    ]
    (status, _, err), (program_status, out, program_err) = map(finish, processes)
    assert status == 1
    assert re.match(r"(ImportError|ModuleNotFoundError): ", err.splitlines()[-1])
    assert message in err.splitlines()[-1]
    assert (program_status, out) == (2, "")
    assert program_err.startswith("vae_mnist.py: error: ")
    assert message in program_err
    assert program_err.count("\n") == 1


@pytest.mark.parametrize(
    ("backend", "kept"),
    [("module://nowhere.backend", False), ("module://mine", True), ("svg", True)],
)
def test_a_notebooks_backend_is_kept_where_it_is_installed(backend, kept, tmp_path):
    """A notebook exports it to the programs that it starts, in other virtual environments too.

    The import ends at Keras' version, after the variable is read.
    """
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    show = "try:\n import vae_mnist\nexcept ImportError:\n print(os.environ.get('MPLBACKEND'))"
    code = f"{STAND_INS}\nkeras.__version__ = '2.0'\n{show}"
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    status, out, err = finish(start("-c", code, MPLBACKEND=backend, PYTHONPATH=path))
    assert (status, err) == (0, "")
    assert out.strip() == (backend if kept else "None")


def test_the_tests_run_in_a_locale_that_is_not_utf_8():
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_readme.py", "-k", "not snippets"]
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    result = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True)
    assert result.returncode == 0, result.stdout.decode(errors="replace")


def test_the_inline_metadata_equals_the_requirements():
    script = SCRIPT.read_text("utf-8")
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///\n", script, re.MULTILINE)[1]
    dependencies = json.loads(re.search(r"^# dependencies = (\[.*\])$", block, re.MULTILINE)[1])
    requirements = (ROOT / "requirements.txt").read_text("utf-8")
    program, _, _ = requirements.partition("# for the tests")
    assert dependencies == program.split()
    assert '# requires-python = ">=3.10,<3.14"' in block
