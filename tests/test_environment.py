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


OLD_KERAS = "import keras; keras.__version__ = '2.15.0'; "
OLD_TENSORFLOW = "import tensorflow; tensorflow.__version__ = '2.10.1'; "
OTHER_BACKEND = "import keras; keras.backend.backend = lambda: 'jax'; "
OLD_PYTHON = "import sys; sys.version_info = (3, 9, 18); sys.version = '3.9.18 (main)'; "
NO_SCIPY = "import sys; sys.modules['scipy.spatial'] = None; "
SURROUNDINGS = {
    "Keras 2": (OLD_KERAS, "keras 2.15.0 is too old; see requirements.txt"),
    "TensorFlow 2.10": (OLD_TENSORFLOW, "tensorflow 2.10.1 is too old"),
    "Keras on JAX": (OTHER_BACKEND, "Keras already runs on jax; import vae_mnist before keras"),
    "Python 3.9": (OLD_PYTHON, "Python 3.9.18 is too old; use 3.10 or later"),
    "a missing package": (NO_SCIPY, "scipy.spatial"),
}


@pytest.mark.parametrize(("before", "message"), SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_unfit_packages_end_the_import_or_the_program_in_one_line(before, message, tmp_path):
    """Set in place of packages that pip cannot install beside each other."""
    as_module = before + "import vae_mnist"
    as_program = before + f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    processes = [start("-c", code, PYTHONPATH=str(ROOT)) for code in (as_module, as_program)]
    (status, _, err), (program_status, out, program_err) = map(finish, processes)
    assert status == 1
    assert re.match(r"(ImportError|ModuleNotFoundError): ", err.splitlines()[-1])
    assert message in err.splitlines()[-1]
    assert (program_status, out) == (2, "")
    assert program_err.startswith("vae_mnist.py: error: ")
    assert message in program_err
    assert program_err.count("\n") == 1


@pytest.mark.parametrize("module", ["module://matplotlib_inline.backend_inline", "module://mine"])
def test_a_notebooks_backend_is_kept_where_it_is_installed(module, tmp_path):
    """A notebook exports it to the programs that it starts, in other virtual environments too."""
    code = "import os, vae_mnist; print(os.environ.get('MPLBACKEND'))"
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    status, out, err = finish(start("-c", code, MPLBACKEND=module, PYTHONPATH=path))
    assert (status, err) == (0, "")
    installed = module == "module://mine"
    assert out.strip() == (module if installed else "None")


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
