"""The script in other surroundings: settings of users, backends, notebooks."""

import json
import os
import re

import keras
import pytest
import tensorflow as tf
from helpers import ROOT, SCRIPT, finish, start

# conftest.py has set KERAS_BACKEND and XLA_FLAGS as a user may.


def test_keras_runs_on_tensorflow_whatever_the_user_has_set():
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert keras.backend.backend() == "tensorflow"


def test_on_a_gpu_numbers_are_those_of_float32_and_the_same_each_time():
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
    flags = os.environ["XLA_FLAGS"].split()
    assert flags == ["--xla_gpu_deterministic_ops=true", "--xla_cpu_multi_thread_eigen=true"]


# Stand-ins for the packages. The import ends at the backend, after the settings are made.
STAND_INS = f"""
import os, runpy, sys
from unittest.mock import MagicMock

names = "keras tensorflow numpy matplotlib matplotlib.figure scipy scipy.spatial scipy.special"
for name in names.split():
    sys.modules[name] = MagicMock(__name__=name)
sys.modules["keras"].backend.backend.return_value = "jax"
try:
    runpy.run_path({str(SCRIPT)!r})
except ImportError as error:
    print(error, os.environ["TF_FORCE_GPU_ALLOW_GROWTH"], sep=", ")
"""


@pytest.mark.parametrize("memory", [{"TF_FORCE_GPU_ALLOW_GROWTH": "false"}, {}])
def test_another_backend_of_keras_is_rejected_and_other_settings_are_the_users(memory):
    status, out, err = finish(start("-c", STAND_INS, **memory))
    assert (status, err) == (0, "")
    allowed = memory.get("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    assert out == f"Keras runs on jax; import vae_mnist before keras, {allowed}\n"


def test_the_metadata_of_script_and_project_equal_the_requirements():
    script = SCRIPT.read_text("utf-8")
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///\n", script, re.MULTILINE)[1]
    dependencies = json.loads(re.search(r"^# dependencies = (\[.*\])$", block, re.MULTILINE)[1])
    requirements = (ROOT / "requirements.txt").read_text("utf-8")
    program, _, _ = requirements.partition("# for the tests")
    assert dependencies == program.split()
    assert '# requires-python = ">=3.10,<3.14"' in block
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f"dependencies = {json.dumps(dependencies)}\n" in project
    assert 'requires-python = ">=3.10,<3.14"\n' in project
