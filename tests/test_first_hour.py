"""What newcomers try works, or one line says why not."""

import gc
import gzip
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import IDX_NAMES, ROOT, SCRIPT, contents, finish, start_script, write_idx

import vae_mnist

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and pipes")
OFFLINE = {"https_proxy": "http://127.0.0.1:9"}  # nothing listens at the discard port
README = (ROOT / "README.md").read_text()


def test_the_readme_begins_with_the_two_commands_that_the_gate_runs():
    commands = re.search(r"^```\n(.*?)^```", README, re.M | re.S)[1].splitlines()
    assert len(commands) == 2
    for command, program in zip(commands, ("python vae_mnist.py", "pytest"), strict=True):
        assert command == (
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && "
            f".venv/bin/{program}"
        )
    assert "python3-venv" in README
    assert "uv run vae_mnist.py" in README
    assert "uv run --with-requirements requirements.txt pytest" in README
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_a_default_run_changes_nothing_that_git_tracks():
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {".venv/", "/outputs/*", "!/outputs/example/"} <= set(ignored)
    assert (ROOT / "outputs" / "example").is_dir()
    for path in re.findall(r'(?:src="|\]\()(outputs/[^")]+)', README):
        assert path.startswith("outputs/example/")
        assert (ROOT / path).exists()


def test_the_snippets_of_the_readme_import_the_script_first():
    for snippet in re.findall(r"^```python\n(.*?)^```", README, re.M | re.S):
        first = next(line for line in snippet.splitlines() if "import" in line)
        assert first == "import vae_mnist" or "load_model" not in snippet


# ---- Interrupts ----------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("moment", range(10))
def test_an_interrupt_during_the_imports_ends_in_one_line(moment):
    command = [sys.executable, "-X", "importtime", SCRIPT, "--help"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    )
    imports = 0
    for line in process.stderr:
        imports += "argparse" in line or imports > 0  # the first import after the handler is set
        if imports > 250 * moment:
            break
    process.send_signal((signal.SIGINT, signal.SIGTERM)[moment % 2])
    own = [
        line
        for line in process.communicate(timeout=60)[1].splitlines()
        if not re.match(r"import time:|WARNING: All log messages before absl|[IWE]\d{4} ", line)
    ]
    assert (process.returncode, own) == (130, ["vae_mnist.py: interrupted"])


@posix
@pytest.mark.parametrize("moment", ["test loss", "wrote"])
def test_an_interrupt_near_the_end_ends_in_one_line_or_comes_too_late(moment, small_file, tmp_path):
    process = start_script("--data", small_file, "--epochs", 1, "--output-dir", tmp_path / "new")
    while not process.stdout.readline().startswith(moment):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert (status, err) in ((130, "vae_mnist.py: interrupted\n"), (0, ""))
    assert not [path for path in (tmp_path / "new").iterdir() if path.name.startswith(".")]


# ---- Pipes and notebooks -------------------------------------------------------------------------


@posix
def test_a_reader_that_leaves_early_ends_the_run_quietly(small_file, output):
    before = contents(output)
    process = start_script("--data", small_file, "--epochs", 1000, "--output-dir", output)
    for _ in range(3):
        process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    assert finish(process)[2] == ""
    assert process.returncode == 1
    assert contents(output) == before


def test_a_path_that_the_terminal_cannot_show_does_not_end_the_run(small_file, tmp_path):
    arguments = ["--data", small_file, "--epochs", 1, "--output-dir", tmp_path / "größe"]
    status, out, err = finish(start_script(*arguments, PYTHONIOENCODING="ascii"))
    assert (status, err) == (0, "")
    assert r"gr\xf6\xdfe" in out


def test_run_in_a_notebook_leaves_the_notebook_as_it_was(small_file, tmp_path):
    """As IPython's %run does it, whose prompts are in sys.ps1 and whose stdout is its own."""
    program = f"""
import gc, io, runpy, signal, sys
sys.ps1 = "In [1]: "
sys.argv = ["vae_mnist.py", "--data", {str(small_file)!r}, "--epochs", "2",
            "--output-dir", {str(tmp_path / "new")!r}]
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
stdout, sys.stdout = sys.stdout, io.StringIO()
try:
    runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
except SystemExit as stop:
    assert stop.code == 0
out, sys.stdout = sys.stdout.getvalue(), stdout
assert gc.isenabled()
assert gc.get_freeze_count() == 0
assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
print(out)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert re.findall(r"^    [12] ", run.stdout, re.MULTILINE) == ["    1 ", "    2 "]
    assert "\x1b" not in run.stdout


def test_the_prompt_after_a_run_with_dash_i_can_be_interrupted(small_file, tmp_path):
    command = [sys.executable, "-i", SCRIPT, "--data", small_file, "--epochs", "1"]
    prompt = "import gc, signal; print(gc.isenabled(), signal.getsignal(signal.SIGINT).__name__)"
    run = subprocess.run(
        [*command, "--output-dir", tmp_path / "new"], input=prompt, capture_output=True, text=True
    )
    assert run.stdout.endswith("True default_int_handler\n")


def test_importing_the_script_leaves_the_collector_and_the_signals_alone():
    assert gc.isenabled()
    assert signal.getsignal(signal.SIGINT) is not vae_mnist.interrupt
    assert not vae_mnist.AS_PROGRAM


# ---- Data ----------------------------------------------------------------------------------------


def test_the_script_alone_without_a_network_says_what_to_give(tmp_path):
    shutil.copy(SCRIPT, tmp_path)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "vae_mnist.py"],
        cwd=tmp_path,
        env=os.environ | OFFLINE | {"KERAS_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    status, out, err = finish(process)
    assert (status, out) == (2, "")
    assert err.startswith("vae_mnist.py: error: MNIST could not be downloaded (")
    assert "mnist_5k.npz is missing; give its mnist.npz or the directory of its four IDX" in err
    assert err.count("\n") == 1


def dotted(directory):
    """Kaggle's names."""
    for path in directory.iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    return directory


def dotted_beside_folders(directory):
    """Kaggle's archive: beside each file a folder, of the ordinary name, that holds it again."""
    for path in list(dotted(directory).iterdir()):
        folder = path.with_name(path.name.replace(".idx", "-idx"))
        folder.mkdir()
        shutil.copy(path, folder / folder.name)
    return directory


def torchvision(directory):
    raw = directory / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in IDX_NAMES.values():
        shutil.move(directory / name, raw / name)
        (raw / f"{name}.gz").write_bytes(b"the archive that torchvision leaves beside it")
    return directory / "root"


@pytest.mark.parametrize("arrange", [dotted, dotted_beside_folders, torchvision])
def test_idx_files_are_found_where_others_leave_them(arrange, digits, tmp_path):
    directory = arrange(write_idx(tmp_path / "idx", digits))
    np.testing.assert_array_equal(
        vae_mnist.load_data(directory).x_test, digits["x_test"].reshape(60, 784)
    )


def test_where_files_are_missing_the_message_names_what_is_there(tmp_path):
    (tmp_path / "holiday photos").mkdir()
    (tmp_path / "t10k-images-idx3-ubyte").touch()
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data(tmp_path)
    assert "lacks train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-labels" in str(error.value)
    assert "it holds ['holiday photos', 't10k-images-idx3-ubyte']" in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("digits.parquet", b"PAR1" + 40 * b"\0" + b"PAR1"),
        ("digits.csv", b"label,pixel0\n7,0\n"),
        ("mnist.pkl.gz", gzip.compress(pickle.dumps([1, 2, 3]))),
        ("train-images-idx3-ubyte.gz", gzip.compress(b"\0\0\x08\x03" + 12 * b"\0")),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + 12 * b"\0"),
    ],
)
def test_another_kind_of_file_is_told_the_two_that_are_read(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data(tmp_path / name)
    assert f"{name}: cannot be read (no complete .npz file)" in str(error.value)
    assert "an .npz file in Keras' layout or the directory of the four IDX files" in str(
        error.value
    )


def test_binarised_images_are_told_to_be_scaled(tmp_path, digits):
    binary = {key: array // 128 if key[0] == "x" else array for key, array in digits.items()}
    np.savez(tmp_path / "binary.npz", **binary)
    with pytest.raises(vae_mnist.InputError, match=r"pixels from 0 to 1; .* 0 to 255: scale them"):
        vae_mnist.load_data(tmp_path / "binary.npz")


@pytest.mark.parametrize("key", ["x_train", "y_test"])
def test_a_member_that_is_no_array_is_refused(key, tmp_path, small_file):
    path = tmp_path / "junk.npz"
    with zipfile.ZipFile(small_file) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"junk" if name == f"{key}.npy" else old.read(name))
    with pytest.raises(
        vae_mnist.InputError, match=r"junk\.npz, (training|test) set: (images|labels)"
    ):
        vae_mnist.load_data(path)


def test_a_small_gzip_file_that_expands_to_gigabytes_is_not_held_in_memory(tmp_path, digits):
    resource = pytest.importorskip("resource", reason="needs POSIX limits of memory")
    directory = write_idx(tmp_path / "idx", digits)
    path = directory / IDX_NAMES["x_test"]
    zeros = gzip.compress(bytes(1 << 28))
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()) + 8 * zeros)
    path.unlink()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(vae_mnist.InputError, match="promises 47,040 values, the file holds more"):
        vae_mnist.load_data(directory)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


# ---- The model of another run --------------------------------------------------------------------


def test_a_model_is_not_evaluated_into_the_files_of_a_training(small_file, tmp_path, capsys):
    arguments = ["--data", str(small_file), "--output-dir", str(tmp_path / "run")]
    assert vae_mnist.main([*arguments, "--epochs", "1"]) == 0
    before = contents(tmp_path / "run")
    assert vae_mnist.main([*arguments, "--model", str(tmp_path / "run" / "vae.keras")]) == 2
    assert contents(tmp_path / "run") == before
    err = capsys.readouterr().err
    assert "run: holds a training's history.csv, training_curves.png, vae.keras; set" in err
    assert err.count("\n") == 1
