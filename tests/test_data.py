"""Data sets: what is read and rejected, and how MNIST is downloaded."""

import hashlib
import http.server
import inspect
import pickle
import shutil
import socket
import tempfile
import threading
import urllib.request
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import BUNDLED, IDX_NAMES, KEYS, contents, write_idx

import vae_mnist

NEEDED = "whole numbers from 0 to 255, not all 0 or 1, with 28 x 28 = 784 an image"

# ---- Good data -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npz", "idx", "idx.gz"])
def test_every_file_format_gives_the_same_split(kind, tmp_path, digits, small_file):
    source = small_file
    if kind != "npz":
        source = write_idx(tmp_path / "idx files", digits, compress=kind == "idx.gz")
    data = vae_mnist.load_data(source)
    np.testing.assert_array_equal(data.x_validation, digits["x_train"][:20].reshape(20, 784))
    np.testing.assert_array_equal(data.y_validation, digits["y_train"][:20])
    np.testing.assert_array_equal(data.x_train, digits["x_train"][20:].reshape(220, 784))
    np.testing.assert_array_equal(data.y_train, digits["y_train"][20:])
    np.testing.assert_array_equal(data.x_test, digits["x_test"].reshape(60, 784))
    np.testing.assert_array_equal(data.y_test, digits["y_test"])
    assert data.name == str(source)


def test_the_classes_are_those_of_all_images(tmp_path, digits):
    labels = {"y_train": digits["y_train"] % 5, "y_test": 3 + digits["y_test"] % 4}
    np.savez(tmp_path / "digits.npz", **digits | labels)
    assert vae_mnist.load_data(tmp_path / "digits.npz").classes.tolist() == list(range(7))


def test_the_bundled_set_has_the_layout_of_keras_and_500_images_of_each_digit():
    with np.load(BUNDLED) as archive:
        arrays = dict(archive)
    shapes = [(4000, 28, 28), (4000,), (1000, 28, 28), (1000,)]
    assert {key: array.shape for key, array in arrays.items()} == dict(
        zip(KEYS, shapes, strict=True)
    )
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(np.bincount(arrays["y_train"]), 10 * [400])
    np.testing.assert_array_equal(np.bincount(arrays["y_test"]), 10 * [100])


def kaggle(directory):
    """A dot in each name, and beside each file a folder, of MNIST's name, that holds it again."""
    for path in list(directory.iterdir()):
        dotted = path.rename(path.with_name(path.name.replace("-idx", ".idx")))
        path.mkdir()
        shutil.copy(dotted, path / path.name)
    return directory


def torchvision(directory):
    raw = directory.parent / "root" / "FashionMNIST" / "raw"
    raw.parent.mkdir(parents=True)
    shutil.move(directory, raw)
    for path in list(raw.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(b"the archive that it leaves beside it")
    return raw.parent.parent


def torchvision_one_set(directory):
    return torchvision(directory) / "FashionMNIST"


@pytest.mark.parametrize("arrange", [kaggle, torchvision, torchvision_one_set])
def test_idx_files_are_found_where_others_leave_them(arrange, digits, tmp_path):
    directory = arrange(write_idx(tmp_path / "idx", digits))
    np.testing.assert_array_equal(
        vae_mnist.load_data(directory).x_test, digits["x_test"].reshape(60, 784)
    )


def test_one_of_several_data_sets_in_a_folder_has_to_be_given(digits, tmp_path):
    root = torchvision(write_idx(tmp_path / "idx", digits))
    shutil.copytree(root / "FashionMNIST", root / "MNIST")
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data(root)
    sets = [str(root / name / "raw") for name in ("FashionMNIST", "MNIST")]
    assert str(error.value) == f"{root}: holds several data sets; give one of {', '.join(sets)}"
    assert len(vae_mnist.load_data(sets[0]).x_test) == 60


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (23, 1), (24, 2)])
def test_the_first_twelfth_is_held_out(count, held_out, tmp_path, digits):
    few = digits | {key: digits[key][:count] for key in ("x_train", "y_train")}
    np.savez(tmp_path / "few.npz", **few)
    data = vae_mnist.load_data(tmp_path / "few.npz")
    assert (len(data.x_validation), len(data.x_train)) == (held_out, count - held_out)


@pytest.mark.parametrize(("copies", "is_noted"), [(4, False), (5, True)])
def test_a_training_set_sorted_by_class_is_noted_unless_it_is_small(
    copies, is_noted, digits, tmp_path, capsys
):
    path = tmp_path / "sorted.npz"
    images, labels = np.tile(digits["x_train"], (copies, 1, 1)), np.tile(digits["y_train"], copies)
    np.savez(path, **digits | {"x_train": images, "y_train": np.sort(labels)})
    vae_mnist.load_data(path)
    note = (
        "note: the validation set, the first 100 training images, has no image of 9 of 10 classes; "
        f"shuffle the training set of {path}.\n"
    )
    assert capsys.readouterr().err == (note if is_noted else "")


def test_a_home_directory_is_expanded(small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copy(small_file, tmp_path / "digits.npz")
    assert len(vae_mnist.load_data("~/digits.npz").x_test) == 60


# ---- Images --------------------------------------------------------------------------------------


FORMS = {
    "of another type": lambda images: images.astype(">i8"),
    "of floats, as scikit-learn gives them": lambda images: images.astype(float),
    "lists": lambda images: images.tolist(),
    "a tensor": tf.constant,
    "28 x 28 x 1": lambda images: images.reshape(-1, 28, 28, 1),
}


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS)
def test_images_of_every_usual_form_are_the_same_bytes(change, data):
    images = vae_mnist.check_images(change(data.x_test[:20]))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, data.x_test[:20])


def test_no_image_needs_a_pixel_above_2():
    assert vae_mnist.check_images(np.full((1, 784), 2)).max() == 2


BAD_IMAGES = {
    "bits": (lambda images: images // 128, "uint8 of shape (20, 784) from 0 to 1;"),
    "booleans": (lambda images: images > 127, "bool of shape (20, 784);"),
    "one above 255": (lambda images: images.astype(int) + (images == 255), "from 0 to 256;"),
    "one below 0": (lambda images: images.astype(int) - (images == 0), "from -1 to 255;"),
    "a fraction": (lambda images: images + 0.5 * (images == 3), "float64 of shape (20, 784) from"),
    "no numbers": (lambda images: images * np.float32("nan"), "from nan to nan;"),
    "text": (lambda images: images.astype(str), "<U3 of shape (20, 784);"),
    "none": (lambda images: images[:0], "uint8 of shape (0, 784);"),
    "too small": (lambda images: images[:, :783], "shape (20, 783) from"),
    "four images of 14 x 14": (lambda images: images[0].reshape(4, 14, 14), "shape (4, 14, 14)"),
    "another rank": (lambda images: images.reshape(2, 10, 28, 28), "shape (2, 10, 28, 28)"),
    "colours": (
        lambda images: np.stack(3 * [images.reshape(-1, 28, 28)], axis=-1),
        "shape (20, 28, 28, 3) from",
    ),
    "the count last": (lambda images: images.reshape(-1, 28, 28).T, "shape (28, 28, 20) from"),
}


@pytest.mark.parametrize(("change", "found"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_arrays_that_are_not_images_are_rejected_with_what_was_found(change, found, data):
    with pytest.raises(ValueError, match=r"^images are ") as error:
        vae_mnist.check_images(change(data.x_test[:20]))
    assert found in str(error.value)
    assert str(error.value).endswith(f"; they must be {NEEDED}")


# ---- Bad data ------------------------------------------------------------------------------------


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        """The file will be at `path`."""
        self.path = path

    def __reduce__(self):
        """Pickled as a call that writes the file."""
        return (open, (self.path, "w"))


# Each function makes a data set that is wrong in one way, from good arrays, and returns its path;
# the text is what the message must name.


def npz(tmp_path, digits, **changes):
    path = tmp_path / "größe and space.npz"
    arrays = {key: array for key, array in (digits | changes).items() if array is not None}
    np.savez(path, **arrays)
    return path


def corrupt_npz(tmp_path, digits):
    path = npz(tmp_path, digits)
    content = bytearray(path.read_bytes())
    content[5000] ^= 255
    path.write_bytes(content)
    return path


def pickled(tmp_path, digits):
    return npz(tmp_path, digits, y_test=np.array([Trap(tmp_path / "sprung"), None], dtype=object))


def bare_pickle(tmp_path, digits):
    path = tmp_path / "digits.npz"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    return path


def member_without_an_array(tmp_path, digits):
    path = npz(tmp_path, digits, x_train=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", b"junk")
    return path


def idx(key, change, compress=False):
    """The four IDX files, the content of that of `key` changed."""

    def make(tmp_path, digits):
        directory = write_idx(tmp_path / "idx ä", digits, compress)
        path = directory / (IDX_NAMES[key] + (".gz" if compress else ""))
        path.write_bytes(change(path.read_bytes()))
        return directory

    return make


def without_a_file(tmp_path, digits):
    directory = write_idx(tmp_path / "idx", digits)
    (directory / IDX_NAMES["y_test"]).unlink()
    return directory


def changed(**changes):
    return lambda tmp_path, digits: npz(
        tmp_path, digits, **{key: change(digits[key]) for key, change in changes.items()}
    )


BAD_DATA = {
    "a path that does not exist": (
        lambda tmp_path, digits: tmp_path / "nö where",
        "nö where: cannot be read (no such file or directory)",
    ),
    "a directory without any": (
        lambda tmp_path, digits: tmp_path,  # but for the output directory
        "has no train-images-idx3-ubyte; give all four IDX files, plain or .gz; it holds ['old ",
    ),
    "a directory without one file": (
        without_a_file,
        "has no t10k-labels-idx1-ubyte; give all four IDX files, plain or .gz; it holds "
        "['t10k-images-idx3-ubyte', 'train-images-idx3-ubyte', 'train-labels-idx1-ubyte']",
    ),
    "a corrupt gzip file": (
        idx("x_train", lambda content: content[:500] + b"\xff\0\xff" + content[503:], True),
        "train-images-idx3-ubyte.gz: cannot be read",
    ),
    "an IDX file of floats": (
        idx("y_test", lambda content: b"\0\0\x0d" + content[3:]),
        "it has no IDX header for unsigned bytes",
    ),
    "three bytes": (
        idx("x_test", lambda content: content[:3]),
        "t10k-images-idx3-ubyte: cannot be read (it has no IDX header",
    ),
    "an IDX header cut off": (
        idx("x_test", lambda content: content[:9]),
        "t10k-images-idx3-ubyte: cannot be read (buffer is smaller",
    ),
    "a truncated IDX file": (
        idx("x_test", lambda content: content[:-1]),
        "cannot be read (cannot reshape array of size 47039 into shape",
    ),
    "a corrupt npz file": (corrupt_npz, "größe and space.npz: cannot be read (Bad CRC-32"),
    "an npz file without a key": (
        changed(y_test=lambda labels: None),
        "holds x_train, y_train, x_test; it must hold x_train, y_train, x_test, y_test",
    ),
    "an npz file with Python objects": (pickled, "Object arrays cannot be loaded"),
    "another kind of file": (
        bare_pickle,
        "digits.npz: cannot be read (it is not a complete .npz file); give an .npz file in Keras' "
        "layout or the directory of the four IDX files",
    ),
    "a member that is no array": (member_without_an_array, "training set: images are |S4 of shape"),
    "images of another size": (
        changed(x_test=lambda images: images[:, :27]),
        f"test set: images are uint8 of shape (60, 27, 28) from 0 to 255; they must be {NEEDED}",
    ),
    "pixels in [0, 1]": (
        changed(x_train=lambda images: images / 255),
        f"training set: images are float64 of shape (240, 28, 28) from 0 to 1; they must "
        f"be {NEEDED}",
    ),
    "fewer labels than images": (
        changed(y_test=lambda labels: labels[:-1]),
        "test set: labels are uint8 of shape (59,); they must be one whole number for each of 60, "
        "not one-hot",
    ),
    "one training image": (
        changed(x_train=lambda images: images[:1], y_train=lambda labels: labels[:1]),
        "training set: holds one image; give at least two",
    ),
}


@pytest.mark.parametrize(("make", "culprit"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_rejected_in_one_line(make, culprit, tmp_path, digits, rejected):
    assert culprit in rejected("--data", make(tmp_path, digits))
    assert not (tmp_path / "sprung").exists()


def test_the_trap_of_the_pickle_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung"))).close()
    assert (tmp_path / "sprung").exists()


# ---- MNIST from the network ----------------------------------------------------------------------


@pytest.fixture
def mnist(small_file):
    """The bytes of a file that stands for the full MNIST."""
    return small_file.read_bytes()


@pytest.fixture
def cache(tmp_path, monkeypatch, mnist):
    """An empty cache of Keras, and no proxy on the way to the test's server."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(vae_mnist, "MNIST_SHA256", hashlib.sha256(mnist).hexdigest())
    monkeypatch.setattr(vae_mnist, "MNIST_URL", "http://127.0.0.1:9/mnist.npz")  # none listens
    (tmp_path / "keras").mkdir()
    return tmp_path / "keras" / "datasets"


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends the server's `body`, if any, and holds the connection when bytes are `withheld`."""

    def do_GET(self):
        self.server.requests += 1
        if self.server.body is not None:
            self.send_response(200)
            self.send_header("Content-Length", len(self.server.body) + self.server.withheld)
            self.end_headers()
            self.wfile.write(self.server.body)
        if self.server.withheld:
            self.server.end.wait(30)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(cache, monkeypatch, mnist):
    """A server of the file at MNIST_URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.body, server.withheld, server.requests = mnist, 0, 0
        server.end = threading.Event()
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/mnist.npz"
        monkeypatch.setattr(vae_mnist, "MNIST_URL", url)
        yield server
        server.end.set()
        server.shutdown()


def assert_bundled(capsys, why):
    """The data are the bundled digits, and one line says why."""
    data = vae_mnist.load_data()
    assert data.name == "MNIST, 5,000 bundled digits"
    assert len(data.x_test) == 1000
    err = capsys.readouterr().err
    assert err.startswith("note: MNIST could not be downloaded (")
    assert why in err
    assert err.endswith("with --data.\n")
    assert err.count("\n") == 1


def test_mnist_is_the_file_that_keras_downloads():
    source = inspect.getsource(keras.datasets.mnist.load_data)
    folder, _, name = vae_mnist.MNIST_URL.rpartition("/")
    for text in (f'"{folder}/"', name, f'"{vae_mnist.MNIST_SHA256}"'):
        assert text in source


def test_mnist_is_downloaded_once(cache, server, mnist, digits, capsys):
    for _ in range(2):
        data = vae_mnist.load_data()
        assert data.name == "MNIST"
        np.testing.assert_array_equal(data.x_test, digits["x_test"].reshape(60, 784))
    assert server.requests == 1
    assert capsys.readouterr().out == f"downloading MNIST, 11 MB\nwrote {cache / 'mnist.npz'}\n"
    assert contents(cache) == {"mnist.npz": mnist}
    assert socket.getdefaulttimeout() is None


def test_a_damaged_cache_is_downloaded_again(cache, server, mnist):
    cache.mkdir()
    (cache / "mnist.npz").write_bytes(mnist[:-5])
    assert vae_mnist.load_data().name == "MNIST"
    assert contents(cache) == {"mnist.npz": mnist}


def test_wrong_bytes_are_rejected_by_the_checksum_and_not_kept(cache, server, mnist, capsys):
    server.body = mnist[:-1] + b"!"
    assert_bundled(capsys, "the file is corrupted: its SHA-256 is wrong")
    assert not cache.exists()


def test_without_a_network_the_bundled_digits_are_used(cache, capsys):
    assert_bundled(capsys, "Connection refused")


@pytest.mark.parametrize("sent", [None, 1000], ids=["never answers", "stalls"])
def test_a_server_that_never_answers_or_stalls_is_left(
    sent, cache, server, mnist, monkeypatch, capsys
):
    assert vae_mnist.SERVER_PATIENCE == 5
    monkeypatch.setattr(vae_mnist, "SERVER_PATIENCE", 0.5)
    server.body, server.withheld = mnist[:sent] if sent else None, 1000
    assert_bundled(capsys, "no answer in 0.5 s")
    assert not cache.exists()


def test_a_home_that_cannot_be_written_moves_the_cache(server, mnist, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "missing" / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert vae_mnist.load_data().name == "MNIST"
    assert contents(tmp_path / ".keras" / "datasets") == {"mnist.npz": mnist}


def test_without_a_place_for_a_cache_the_download_is_used_all_the_same(
    server, monkeypatch, tmp_path, capsys, digits
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    data = vae_mnist.load_data()
    assert data.name == "MNIST"
    np.testing.assert_array_equal(data.x_test, digits["x_test"].reshape(60, 784))
    cached = tmp_path / "file" / ".keras" / "datasets" / "mnist.npz"
    assert capsys.readouterr().err == (
        f"note: {cached} cannot be written (Not a directory): the next run downloads MNIST again.\n"
    )


def test_without_a_network_and_the_bundled_digits_it_says_what_to_give(
    cache, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(vae_mnist, "BUNDLED_DIGITS", tmp_path / "mnist_5k.npz")
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data()
    assert str(error.value).startswith("MNIST could not be downloaded (")
    assert str(error.value).endswith(
        "mnist_5k.npz is missing; give its mnist.npz or the directory of its four IDX files with "
        "--data"
    )
