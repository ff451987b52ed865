"""Data sets: what is read, what is rejected, and which images are held out."""

import gzip
import hashlib
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers import IDX_NAMES, KEYS, mnist, write_idx

import vae_mnist

NEEDED = "28 x 28 bytes, whole numbers from 0 to 255, or pixels, floats from 0 to 1 (bytes / 255)"
REMEDY = "give an .npz file or a folder of IDX files"

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
    assert data.name == source.name


def test_the_classes_are_those_of_all_images(tmp_path, digits):
    labels = {"y_train": digits["y_train"] % 5, "y_test": 3 + digits["y_test"] % 4}
    np.savez(tmp_path / "digits.npz", **digits | labels)
    assert vae_mnist.load_data(tmp_path / "digits.npz").classes.tolist() == list(range(7))


def test_the_default_is_the_whole_mnist():
    data = vae_mnist.load_data(vae_mnist.parse_arguments([]).data)
    assert data.name == "MNIST"
    images = np.concatenate([data.x_validation, data.x_train])
    labels = np.concatenate([data.y_validation, data.y_train])
    assert (len(data.x_train), len(data.x_validation), len(data.x_test)) == (55_000, 5_000, 10_000)
    header = np.array([0x803, 60_000, 28, 28], ">u4").tobytes()
    # Of the file train-images-idx3-ubyte, as it has been distributed since 1998.
    assert hashlib.md5(header + images.tobytes()).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(labels), counts)
    np.testing.assert_array_equal(data.y_test[:10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9])


def test_the_file_of_mnist_has_the_layout_of_keras():
    shapes = [(60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,)]
    assert {key: array.shape for key, array in mnist().items()} == dict(
        zip(KEYS, shapes, strict=True)
    )
    assert {array.dtype for array in mnist().values()} == {np.dtype(np.uint8)}


def test_where_the_file_of_mnist_is_missing_one_line_says_so(monkeypatch, tmp_path):
    missing = tmp_path / "data" / "mnist.npz"
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data(missing)
    assert str(error.value) == (f"{missing}, train set: No such file or directory; {REMEDY}")


def test_idx_files_are_found_under_the_names_that_kaggle_gives_them(digits, tmp_path):
    """A dot in each name, and beside each file a folder, of MNIST's name, that holds it again."""
    directory = write_idx(tmp_path / "idx", digits)
    for path in list(directory.iterdir()):
        dotted = path.rename(path.with_name(path.name.replace("-idx", ".idx")))
        path.mkdir()
        shutil.copy(dotted, path / path.name)
    np.testing.assert_array_equal(
        vae_mnist.load_data(directory).x_test, digits["x_test"].reshape(60, 784)
    )


@pytest.mark.parametrize("added", [" (1)", "-old", " copy", ".bak"])
def test_files_with_other_names_than_those_of_mnist_are_not_read(added, digits, tmp_path):
    """A browser or a person has named another data set so, beside the one that is meant."""
    directory = write_idx(tmp_path / "idx", digits)
    for other in write_idx(tmp_path / "other", {key: 0 * digits[key] for key in KEYS}).iterdir():
        shutil.copy(other, directory / (other.name + added))
        (directory / (other.name + added + ".gz")).write_bytes(gzip.compress(other.read_bytes()))
    data = vae_mnist.load_data(directory)
    np.testing.assert_array_equal(data.x_test, digits["x_test"].reshape(60, 784))
    (directory / IDX_NAMES["x_train"]).unlink()
    with pytest.raises(vae_mnist.InputError, match="it has no train-images-idx3-ubyte, but "):
        vae_mnist.load_data(directory)


def test_a_plain_idx_file_is_read_before_a_compressed_one(digits, tmp_path, monkeypatch):
    directory = write_idx(
        tmp_path / "idx", digits | {"y_test": 0 * digits["y_test"]}, compress=True
    )
    write_idx(directory, digits)
    glob = Path.glob  # whose order depends on the file system
    monkeypatch.setattr(Path, "glob", lambda *where: sorted(glob(*where), reverse=True))
    np.testing.assert_array_equal(vae_mnist.load_data(directory).y_test, digits["y_test"])


def test_pixels_in_a_file_are_rounded_to_bytes(digits, tmp_path):
    pixels = {key: digits[key] / np.float32(256) for key in ("x_train", "x_test")}
    np.savez(tmp_path / "pixels.npz", **digits | pixels)
    data = vae_mnist.load_data(tmp_path / "pixels.npz")
    expected = np.floor(digits["x_test"] * (255 / 256) + 0.5)
    np.testing.assert_array_equal(data.x_test, expected.reshape(60, 784))


def test_of_a_test_set_sorted_by_class_the_first_images_are_of_all_classes(digits, tmp_path):
    order = np.argsort(digits["y_test"], kind="stable")
    by_class = {key: digits[key][order] for key in ("x_test", "y_test")}
    by_class = {key: np.repeat(array, 5, axis=0) for key, array in by_class.items()}
    np.savez(tmp_path / "sorted.npz", **digits | by_class)
    data = vae_mnist.load_data(tmp_path / "sorted.npz")
    assert len(set(data.y_test[:10])) > 4
    pairs = sorted(zip(map(bytes, data.x_test), data.y_test, strict=True))
    images = by_class["x_test"].reshape(-1, 784)
    assert pairs == sorted(zip(map(bytes, images), by_class["y_test"], strict=True))


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (23, 1), (24, 2)])
def test_the_first_twelfth_is_held_out(count, held_out, tmp_path, digits):
    few = digits | {key: digits[key][:count] for key in ("x_train", "y_train")}
    np.savez(tmp_path / "few.npz", **few)
    data = vae_mnist.load_data(tmp_path / "few.npz")
    assert (len(data.x_validation), len(data.x_train)) == (held_out, count - held_out)


def test_a_training_set_sorted_by_class_is_shuffled(digits, tmp_path):
    images, labels = np.tile(digits["x_train"], (5, 1, 1)), np.tile(digits["y_train"], 5)
    order = np.argsort(labels, kind="stable")
    by_class = {"x_train": images[order], "y_train": labels[order]}
    np.savez(tmp_path / "sorted.npz", **digits | by_class)
    data = vae_mnist.load_data(tmp_path / "sorted.npz")
    assert len(set(data.y_validation)) == 10
    found = zip(
        map(bytes, [*data.x_validation, *data.x_train]),
        [*data.y_validation, *data.y_train],
        strict=True,
    )
    expected = zip(map(bytes, images.reshape(-1, 784)), labels, strict=True)
    assert sorted(found) == sorted(expected)


def test_a_home_directory_is_expanded(small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copy(small_file, tmp_path / "digits.npz")
    assert len(vae_mnist.load_data("~/digits.npz").x_test) == 60


# ---- Images --------------------------------------------------------------------------------------


FORMS = {
    "of another type": lambda images: images.astype(">i8"),
    "lists": lambda images: images.tolist(),
    "a tensor": tf.constant,
    "28 x 28": lambda images: images.reshape(-1, 28, 28),
    "28 x 28 x 1": lambda images: images.reshape(-1, 28, 28, 1),
}


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS)
def test_images_of_every_usual_form_are_the_same_bytes(change, data):
    images = vae_mnist.check_images(change(data.x_test[:20]))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, data.x_test[:20])


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_floats_from_0_to_1_are_pixels(kind, data):
    pixels = (data.x_test[:20] / 255).astype(kind)
    images = vae_mnist.check_images(pixels.reshape(-1, 28, 28))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, pixels.astype(np.float32))


BAD_IMAGES = {
    "booleans": (lambda images: images > 127, "bool of shape (20, 784);"),
    "one above 255": (lambda images: images.astype(int) + (images == 255), "from 0 to 256;"),
    "one below 0": (lambda images: images.astype(int) - (images == 0), "from -1 to 255;"),
    "bytes as floats": (
        lambda images: images.astype(float),
        "float64 of shape (20, 784) from 0 to",
    ),
    "a float above 1": (
        lambda images: images / 254,
        "float64 of shape (20, 784) from 0 to 1.00394",
    ),
    "a float below 0": (lambda images: images / 127.5 - 1, "from -1 to 1;"),
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
    "a data set": (lambda images: tf.data.Dataset.from_tensors(images), "object of shape ();"),
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
        "nö where, train set: No such file or directory; give",
    ),
    "a directory without any": (
        lambda tmp_path, digits: tmp_path,  # but for the output directory
        "it has no train-images-idx3-ubyte, but []; give",
    ),
    "a directory without one file": (
        without_a_file,
        "idx, test set: it has no t10k-labels-idx1-ubyte, but ['t10k-images-idx3-ubyte', "
        "'train-images-idx3-ubyte', 'train-labels-idx1-ubyte']; give",
    ),
    "a corrupt gzip file": (
        idx("x_train", lambda content: content[:500] + b"\xff\0\xff" + content[503:], True),
        "idx ä, train set: Error -3 while decompressing data",
    ),
    "an IDX file of floats": (
        idx("y_test", lambda content: b"\0\0\x0d" + content[3:]),
        "t10k-labels-idx1-ubyte has no IDX header for unsigned bytes",
    ),
    "three bytes": (
        idx("x_test", lambda content: content[:3]),
        "t10k-images-idx3-ubyte has no IDX header for unsigned bytes",
    ),
    "an IDX header cut off": (
        idx("x_test", lambda content: content[:9]),
        "idx ä, test set: buffer is smaller than requested size; give",
    ),
    "a truncated IDX file": (
        idx("x_test", lambda content: content[:-1]),
        "idx ä, test set: cannot reshape array of size 47039 into shape",
    ),
    "a corrupt npz file": (corrupt_npz, "größe and space.npz, train set: Bad CRC-32"),
    "an npz file without a key": (
        changed(y_test=lambda labels: None),
        "There is no item named 'y_test.npy' in the archive",
    ),
    "an npz file with Python objects": (pickled, "Object arrays cannot be loaded"),
    "another kind of file": (
        bare_pickle,
        f"digits.npz, train set: File is not a zip file; {REMEDY}",
    ),
    "a member that is no array": (member_without_an_array, "pickled"),
    "images of another size": (
        changed(x_test=lambda images: images[:, :27]),
        f"test set: images are uint8 of shape (60, 27, 28) from 0 to 255; they must be {NEEDED}",
    ),
    "floats above 1": (
        changed(x_train=lambda images: images.astype(float)),
        f": images are float64 of shape (240, 28, 28) from 0 to 255; they must be {NEEDED}",
    ),
    "fewer labels than images": (
        changed(y_test=lambda labels: labels[:-1]),
        "test set: labels (59,) must be 60 whole numbers, and not one-hot; give",
    ),
    "one training image": (
        changed(x_train=lambda images: images[:1], y_train=lambda labels: labels[:1]),
        "images are uint8 of shape (0, 784)",
    ),
}


@pytest.mark.parametrize(("make", "culprit"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_rejected_in_one_line(make, culprit, tmp_path, digits, rejected):
    assert culprit in rejected("--data", make(tmp_path, digits))
    assert not (tmp_path / "sprung").exists()


def test_the_trap_of_the_pickle_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung"))).close()
    assert (tmp_path / "sprung").exists()
