"""Data sets: what is read and rejected, and how MNIST is downloaded."""

import gzip
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


@pytest.fixture(params=["npz", "idx", "idx.gz"])
def source(request, tmp_path, digits, small_file):
    """The same digits in each of the three forms."""
    if request.param == "npz":
        return small_file
    return write_idx(tmp_path / "idx files", digits, compress=request.param == "idx.gz")


def test_every_file_format_gives_the_same_split(source, digits):
    data = vae_mnist.load_data(source)
    np.testing.assert_array_equal(data.x_validation, digits["x_train"][:20].reshape(20, 784))
    np.testing.assert_array_equal(data.y_validation, digits["y_train"][:20])
    np.testing.assert_array_equal(data.x_train, digits["x_train"][20:].reshape(220, 784))
    np.testing.assert_array_equal(data.y_train, digits["y_train"][20:])
    np.testing.assert_array_equal(data.x_test, digits["x_test"].reshape(60, 784))
    np.testing.assert_array_equal(data.y_test, digits["y_test"])
    assert data.name == str(source)


def test_plain_and_compressed_idx_files_may_be_mixed(tmp_path, digits):
    directory = write_idx(tmp_path / "mixed", digits)
    plain = directory / IDX_NAMES["x_test"]
    plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert len(vae_mnist.load_data(directory).x_test) == 60


def test_the_classes_are_those_of_all_images(tmp_path, digits):
    labels = {"y_train": digits["y_train"] % 5, "y_test": 3 + digits["y_test"] % 4}
    np.savez(tmp_path / "digits.npz", **digits | labels)
    assert vae_mnist.load_data(tmp_path / "digits.npz").classes.tolist() == list(range(7))


def test_the_bundled_set_has_400_training_and_100_test_images_of_each_digit(data):
    assert len(data.x_validation) == 4000 // 12
    y_train = np.concatenate([data.y_validation, data.y_train])
    np.testing.assert_array_equal(np.bincount(y_train), 10 * [400])
    np.testing.assert_array_equal(np.bincount(data.y_test), 10 * [100])
    assert (data.x_train.min(), data.x_train.max()) == (0, 255)


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


def torchvision(directory, name="MNIST"):
    raw = directory.parent / "root" / name / "raw"
    raw.parent.mkdir(parents=True)
    shutil.move(directory, raw)
    for path in list(raw.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(b"the archive that it leaves beside it")
    return raw.parent.parent


def torchvision_fashion(directory):
    return torchvision(directory, "FashionMNIST")


def torchvision_one_set(directory):
    return torchvision(directory) / "MNIST"


ARRANGEMENTS = [
    dotted,
    dotted_beside_folders,
    torchvision,
    torchvision_fashion,
    torchvision_one_set,
]


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
def test_idx_files_are_found_where_others_leave_them(arrange, digits, tmp_path):
    directory = arrange(write_idx(tmp_path / "idx", digits))
    np.testing.assert_array_equal(
        vae_mnist.load_data(directory).x_test, digits["x_test"].reshape(60, 784)
    )


def test_one_of_several_data_sets_in_a_folder_has_to_be_given(digits, tmp_path):
    torchvision(write_idx(tmp_path / "idx", digits), "MNIST")
    shutil.copytree(tmp_path / "root" / "MNIST", tmp_path / "root" / "FashionMNIST")
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data(tmp_path / "root")
    sets = [str(tmp_path / "root" / name / "raw") for name in ("FashionMNIST", "MNIST")]
    assert str(error.value) == (
        f"{tmp_path / 'root'}: holds several data sets; give one of {', '.join(sets)}"
    )
    assert len(vae_mnist.load_data(sets[0]).x_test) == 60


def test_the_bundled_file_has_the_layout_of_keras():
    with np.load(BUNDLED) as archive:
        assert {key: archive[key].shape for key in archive} == dict(
            zip(KEYS, [(4000, 28, 28), (4000,), (1000, 28, 28), (1000,)], strict=True)
        )
        assert {archive[key].dtype for key in archive} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (23, 1), (24, 2), (240, 20)])
def test_the_first_twelfth_is_held_out(count, held_out, tmp_path, digits):
    few = digits | {key: digits[key][:count] for key in ("x_train", "y_train")}
    np.savez(tmp_path / "few.npz", **few)
    data = vae_mnist.load_data(tmp_path / "few.npz")
    assert (len(data.x_validation), len(data.x_train)) == (held_out, count - held_out)


SHAPES = {"flat": (-1, 784), "28 x 28 x 1": (-1, 28, 28, 1)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", [">i8", "float64"])
def test_images_and_labels_of_other_shapes_and_types_are_accepted(shape, kind, tmp_path, digits):
    other = {key: digits[key].astype(kind).reshape(shape) for key in ("x_train", "x_test")}
    other |= {key: digits[key].astype("int64")[:, None] for key in ("y_train", "y_test")}
    np.savez(tmp_path / "other.npz", **other)
    data = vae_mnist.load_data(tmp_path / "other.npz")
    assert data.x_test.dtype == np.uint8
    np.testing.assert_array_equal(data.x_test, digits["x_test"].reshape(60, 784))
    np.testing.assert_array_equal(data.y_test, digits["y_test"])


def sorted_by_class(digits, tmp_path, count):
    order = np.argsort(digits["y_train"], kind="stable")
    images = {key: np.tile(digits[key][order], (count, 1, 1)) for key in ("x_train",)}
    labels = {"y_train": np.sort(np.tile(digits["y_train"], count))}
    np.savez(tmp_path / "sorted.npz", **digits | images | labels)
    return tmp_path / "sorted.npz"


def test_a_training_set_sorted_by_class_is_noted(digits, tmp_path, capsys):
    path = sorted_by_class(digits, tmp_path, count=5)  # 100 images are held out
    vae_mnist.load_data(path)
    assert capsys.readouterr().err == (
        "note: the validation set, the first 100 training images, has no image of 9 of 10 classes; "
        f"shuffle the training set of {path}.\n"
    )


def test_a_small_validation_set_may_lack_classes(digits, tmp_path, capsys):
    vae_mnist.load_data(sorted_by_class(digits, tmp_path, count=4))
    assert capsys.readouterr().err == ""


def test_a_home_directory_is_expanded(small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copy(small_file, tmp_path / "digits.npz")
    assert len(vae_mnist.load_data("~/digits.npz").x_test) == 60


# ---- Images --------------------------------------------------------------------------------------


FORMS = {
    "as they are stored": lambda images: images,
    "of another type": lambda images: images.astype(">i8"),
    "of floats, as scikit-learn gives them": lambda images: images.astype(float),
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


def test_no_image_needs_a_pixel_above_2():
    assert vae_mnist.check_images(np.full((1, 784), 2)).max() == 2


BAD_IMAGES = {
    "pixels in [0, 1]": (lambda images: images / 255, "float64 of shape (20, 784) from 0 to 1;"),
    "pixels in [-1, 1]": (lambda images: images / 127.5 - 1, "from -1 to 1;"),
    "bits": (lambda images: images // 128, "uint8 of shape (20, 784) from 0 to 1;"),
    "booleans": (lambda images: images > 127, "bool of shape (20, 784);"),
    "of 16 bits": (lambda images: images.astype(int) * 257, "from 0 to 65535;"),
    "one above 255": (lambda images: images.astype(int) + (images == 255), "from 0 to 256;"),
    "one below 0": (lambda images: images.astype(int) - (images == 0), "from -1 to 255;"),
    "a fraction": (lambda images: images + 0.5 * (images == 3), "float64 of shape (20, 784) from"),
    "no numbers": (lambda images: images * np.float32("nan"), "from nan to nan;"),
    "text": (lambda images: images.astype(str), "<U3 of shape (20, 784);"),
    "none": (lambda images: images[:0], "uint8 of shape (0, 784);"),
    "too small": (lambda images: images[:, :783], "shape (20, 783) from"),
    "four images of 14 x 14": (lambda images: images[0].reshape(4, 14, 14), "shape (4, 14, 14)"),
    "two halves": (lambda images: images[0].reshape(2, 392), "shape (2, 392)"),
    "four channels": (lambda images: images[0].reshape(14, 14, 4), "shape (14, 14, 4)"),
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


def truncated_npz(tmp_path, digits):
    path = npz(tmp_path, digits)
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def corrupt_npz(tmp_path, digits):
    path = npz(tmp_path, digits)
    content = bytearray(path.read_bytes())
    content[5000] ^= 255
    path.write_bytes(content)
    return path


def text_file(tmp_path, digits):
    path = tmp_path / "notes.npz"
    path.write_text("no digits here")
    return path


def single_array(tmp_path, digits):
    path = tmp_path / "digits.npy"
    np.save(path, digits["x_train"])
    return path


def pickled(tmp_path, digits):
    return npz(tmp_path, digits, y_test=np.array([Trap(tmp_path / "sprung"), None], dtype=object))


def bare_pickle(tmp_path, digits):
    path = tmp_path / "digits.npz"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    return path


def idx(key, change, compress=False):
    """The four IDX files, the content of that of `key` changed."""

    def make(tmp_path, digits):
        directory = write_idx(tmp_path / "idx ä", digits, compress)
        path = directory / (IDX_NAMES[key] + (".gz" if compress else ""))
        path.write_bytes(change(path.read_bytes()))
        return directory

    return make


def dimension(index, value):
    """A change of an IDX header: dimension `index` becomes `value`."""
    return lambda content: (
        content[: 4 + 4 * index] + value.to_bytes(4, "big") + content[8 + 4 * index :]
    )


def without_a_file(tmp_path, digits):
    directory = write_idx(tmp_path / "idx", digits)
    (directory / IDX_NAMES["y_test"]).unlink()
    return directory


def directory_for_a_file(tmp_path, digits):
    directory = without_a_file(tmp_path, digits)
    (directory / IDX_NAMES["y_test"]).mkdir()
    return directory


def changed(**changes):
    return lambda tmp_path, digits: npz(
        tmp_path, digits, **{key: change(digits[key]) for key, change in changes.items()}
    )


BAD_DATA = {
    "a path that does not exist": (lambda tmp_path, digits: tmp_path / "nö where", "nö where"),
    "an empty directory": (
        lambda tmp_path, digits: tmp_path,
        "has no train-images-idx3-ubyte; give all four IDX files",
    ),
    "a directory without one file": (without_a_file, "has no t10k-labels-idx1-ubyte;"),
    "a directory in place of a file": (directory_for_a_file, "has no t10k-labels-idx1-ubyte;"),
    "an empty file": (
        idx("x_test", lambda content: b""),
        "t10k-images-idx3-ubyte: cannot be read (it has no IDX header",
    ),
    "a truncated gzip file": (
        idx("x_train", lambda content: content[:-20], compress=True),
        "train-images-idx3-ubyte.gz: cannot be read (Compressed file ended",
    ),
    "a corrupt gzip file": (
        idx("x_train", lambda content: content[:500] + b"\xff\0\xff" + content[503:], True),
        "train-images-idx3-ubyte.gz: cannot be read",
    ),
    "no gzip file": (
        idx("y_train", gzip.decompress, compress=True),
        "train-labels-idx1-ubyte.gz: cannot be read (Not a gzipped file",
    ),
    "no IDX file": (idx("y_test", lambda content: b"1,2,3,4"), "it has no IDX header"),
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
    "a longer IDX file": (
        idx("x_test", lambda content: content + b"!"),
        "cannot be read (cannot reshape array of size 47041 into shape",
    ),
    "a huge dimension": (idx("x_test", dimension(0, 2**31)), "t10k-images-idx3-ubyte: cannot be"),
    "a truncated npz file": (
        truncated_npz,
        "größe and space.npz: cannot be read (it is not a complete",
    ),
    "a corrupt npz file": (corrupt_npz, "größe and space.npz: cannot be read (Bad CRC-32"),
    "a text file": (
        text_file,
        "notes.npz: cannot be read (it is not a complete .npz file)",
    ),
    "an npy file": (single_array, "digits.npy: cannot be read (it is not a complete"),
    "an npz file without a key": (
        changed(y_test=lambda labels: None),
        "holds x_train, y_train, x_test; it must hold x_train, y_train, x_test, y_test",
    ),
    "an npz file with Python objects": (pickled, "Object arrays cannot be loaded"),
    "a pickle": (bare_pickle, "digits.npz: cannot be read (it is not a complete"),
    "images of another size": (
        changed(x_test=lambda images: images[:, :27]),
        f"test set: images are uint8 of shape (60, 27, 28) from 0 to 255; they must be {NEEDED}",
    ),
    "binary images": (
        changed(x_train=lambda images: images // 128),
        f"training set: images are uint8 of shape (240, 28, 28) from 0 to 1; they must be {NEEDED}",
    ),
    "pixels in [0, 1]": (
        changed(x_train=lambda images: images / 255),
        f"training set: images are float64 of shape (240, 28, 28) from 0 to 1; they must "
        f"be {NEEDED}",
    ),
    "fewer labels than images": (
        changed(y_test=lambda labels: labels[:-1]),
        "test set: labels are uint8 of shape (59,); they must be one whole number for each of 60",
    ),
    "labels one-hot": (
        changed(y_test=lambda labels: np.eye(10, dtype=int)[labels]),
        "(60, 10); they must be one whole number for each of 60, not one-hot",
    ),
    "labels that are no whole numbers": (
        changed(y_train=lambda labels: labels / 2),
        "training set: labels are float64 of shape (240,)",
    ),
    "labels as text": (changed(y_test=lambda labels: labels.astype(str)), "labels are <U3"),
    "no training images": (
        changed(x_train=lambda images: images[:0], y_train=lambda labels: labels[:0]),
        "training set: images are uint8 of shape (0, 28, 28);",
    ),
    "no test images": (
        changed(x_test=lambda images: images[:0], y_test=lambda labels: labels[:0]),
        "test set: images are uint8 of shape (0, 28, 28);",
    ),
    "one training image": (
        changed(x_train=lambda images: images[:1], y_train=lambda labels: labels[:1]),
        "training set: holds one image; give at least two",
    ),
    "more labels than images in IDX files": (
        idx("y_test", lambda content: dimension(0, 61)(content) + b"!"),
        "test set: labels are uint8 of shape (61,)",
    ),
}


@pytest.mark.parametrize(("make", "culprit"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_rejected_in_one_line(make, culprit, tmp_path, digits, rejected):
    assert culprit in rejected("--data", make(tmp_path, digits))
    assert not (tmp_path / "sprung").exists()


def test_the_trap_of_the_pickle_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung"))).close()
    assert (tmp_path / "sprung").exists()


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    (tmp_path / "holiday photos").mkdir()
    (tmp_path / "t10k-images-idx3-ubyte").touch()
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data(tmp_path)
    assert "has no train-images-idx3-ubyte; give all four IDX files" in str(error.value)
    assert "it holds ['holiday photos', 't10k-images-idx3-ubyte']" in str(error.value)


OTHER_FILES = {
    "digits.parquet": b"PAR1" + 40 * b"\0" + b"PAR1",
    "digits.csv": b"label,pixel0\n7,0\n",
    "mnist.pkl.gz": gzip.compress(pickle.dumps([1, 2, 3])),
    "train-images-idx3-ubyte.gz": gzip.compress(b"\0\0\x08\x03" + 12 * b"\0"),
    "train-images-idx3-ubyte": b"\0\0\x08\x03" + 12 * b"\0",
}


@pytest.mark.parametrize(("name", "content"), OTHER_FILES.items(), ids=OTHER_FILES)
def test_for_another_kind_of_file_the_message_names_the_two_that_are_read(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data(tmp_path / name)
    assert f"{name}: cannot be read (it is not a complete .npz file)" in str(error.value)
    assert "an .npz file in Keras' layout or the directory of the four IDX files" in str(
        error.value
    )


FOREIGN = {
    "MedMNIST": ["train_images", "val_images", "test_images", "train_labels"],
    "KMNIST": ["arr_0"],
}


@pytest.mark.parametrize("names", FOREIGN.values(), ids=FOREIGN)
def test_for_a_foreign_npz_the_message_names_the_arrays_it_has_and_lacks(names, tmp_path):
    np.savez(tmp_path / "foreign.npz", **dict.fromkeys(names, np.zeros((2, 28, 28), np.uint8)))
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data(tmp_path / "foreign.npz")
    assert str(error.value) == (
        f"{tmp_path / 'foreign.npz'}: holds {', '.join(names)}; it must hold x_train, y_train, "
        "x_test, y_test"
    )


@pytest.mark.parametrize("key", ["x_train", "y_test"])
def test_a_member_that_is_no_array_is_rejected(key, tmp_path, small_file):
    path = tmp_path / "junk.npz"
    with zipfile.ZipFile(small_file) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"junk" if name == f"{key}.npy" else old.read(name))
    with pytest.raises(vae_mnist.InputError, match=r"junk\.npz, (training|test) set: "):
        vae_mnist.load_data(path)


def mutate(content, rng):
    """`content` with a few bytes changed, cut off, or inserted."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(min(rng.integers(len(content) + 1), rng.exponential(400)))
        kind = rng.integers(4)
        if kind == 0:
            content[place : place + 4] = rng.bytes(4)
        elif kind == 1:
            del content[place : place + int(rng.integers(1, 200))]
        elif kind == 2:
            content[place:place] = rng.bytes(3)
        else:
            del content[len(content) - place :]
    return bytes(content)


def loads(path):
    """Load `path`; return True for a valid data set, False for the clear error, else raise."""
    try:
        data = vae_mnist.load_data(path)
    except vae_mnist.InputError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        return False
    for images, labels in (data[1:3], data[3:5], data[5:7]):
        assert images.dtype == np.uint8
        assert images.shape == (len(labels), 784)
    return True


def test_a_mutated_npz_is_a_data_set_or_the_clear_error(tmp_path, digits):
    path = tmp_path / "digits.npz"
    rng = np.random.default_rng(0)
    few = {key: array[:20] for key, array in digits.items()}
    outcomes = set()
    for case in range(200):
        (np.savez, np.savez_compressed)[case % 2](path, **few)
        path.write_bytes(mutate(path.read_bytes(), rng))
        outcomes.add(loads(path))
    assert outcomes == {True, False}


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])
def test_a_mutated_idx_file_is_a_data_set_or_the_clear_error(tmp_path, digits, compress):
    few = {key: array[:20] for key, array in digits.items()}
    directory = write_idx(tmp_path / "idx", few, compress)
    originals = {path: path.read_bytes() for path in directory.iterdir()}
    rng = np.random.default_rng(1)
    outcomes = set()
    for path, content in originals.items():
        for _ in range(40):
            path.write_bytes(mutate(content, rng))
            outcomes.add(loads(directory))
        path.write_bytes(content)
    assert False in outcomes
    assert loads(directory)


# ---- MNIST from the network ----------------------------------------------------------------------


@pytest.fixture
def mnist(small_file):
    """The bytes of a file that stands for the full MNIST."""
    return small_file.read_bytes()


def point_at(port, monkeypatch):
    """Has the script download from a port of this machine."""
    monkeypatch.setattr(vae_mnist, "MNIST_URL", f"http://127.0.0.1:{port}/mnist.npz")


@pytest.fixture
def cache(tmp_path, monkeypatch, mnist):
    """An empty cache of Keras, and no proxy on the way to the test's server."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(vae_mnist, "MNIST_SHA256", hashlib.sha256(mnist).hexdigest())
    (tmp_path / "keras").mkdir()
    return tmp_path / "keras" / "datasets"


@pytest.fixture
def serve(monkeypatch):
    """Starts a server of bytes at MNIST_URL; returns the list that will name its requests.

    One that `stalls` goes on to hold the connection after the last of the bytes.
    """
    servers = []
    end = threading.Event()

    def start(body, promised=None, stalls=False):
        requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.command)
                self.send_response(200)
                self.send_header("Content-Length", promised or len(body))
                self.end_headers()
                self.wfile.write(body)
                if stalls:
                    end.wait(60)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        servers.append(server)
        point_at(server.server_port, monkeypatch)
        return requests

    yield start
    end.set()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def silent_server(monkeypatch):
    """A server at MNIST_URL that accepts connections and never answers.

    It goes away in the end, so that a client that would wait for ever fails its test.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        point_at(server.getsockname()[1], monkeypatch)
        end = threading.Timer(30, server.close)
        end.start()
        yield
        end.cancel()


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
    for text in (f'"{folder}/"', f"{{origin_folder}}{name}", f'"{vae_mnist.MNIST_SHA256}"'):
        assert text in source


def test_mnist_is_downloaded_once(cache, serve, mnist, digits, capsys):
    requests = serve(mnist)
    for _ in range(2):
        data = vae_mnist.load_data()
        assert data.name == "MNIST"
        np.testing.assert_array_equal(data.x_test, digits["x_test"].reshape(60, 784))
    assert requests == ["GET"]
    assert capsys.readouterr().out == (f"downloading MNIST, 11 MB\nwrote {cache / 'mnist.npz'}\n")
    assert contents(cache) == {"mnist.npz": mnist}


def test_the_time_out_of_sockets_is_left_as_it_was(cache, serve, mnist):
    serve(mnist)
    vae_mnist.load_data()
    assert socket.getdefaulttimeout() is None


def test_a_damaged_cache_is_downloaded_again(cache, serve, mnist):
    cache.mkdir()
    (cache / "mnist.npz").write_bytes(mnist[:-5])
    serve(mnist)
    assert vae_mnist.load_data().name == "MNIST"
    assert contents(cache) == {"mnist.npz": mnist}


def test_wrong_bytes_are_rejected_by_the_checksum_and_not_kept(cache, serve, mnist, capsys):
    serve(mnist[:-1] + b"!")
    assert_bundled(capsys, "the file is corrupted: its SHA-256 is wrong")
    assert not cache.exists()


def test_a_download_broken_off_is_not_kept(cache, serve, mnist, capsys):
    serve(mnist[:1000], promised=len(mnist))
    assert_bundled(capsys, "IncompleteRead")
    assert not cache.exists()


def test_without_a_network_the_bundled_digits_are_used(cache, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    point_at(port, monkeypatch)
    assert_bundled(capsys, "Connection refused")


def test_a_proxy_that_refuses_leaves_the_bundled_digits(cache, serve, monkeypatch, capsys):
    serve(b"")
    proxy = vae_mnist.MNIST_URL.removesuffix("/mnist.npz")
    monkeypatch.setenv("https_proxy", proxy)  # whose server knows no CONNECT
    monkeypatch.setattr(vae_mnist, "MNIST_URL", "https://mnist.invalid/mnist.npz")
    assert_bundled(capsys, "Tunnel connection failed: 501")


def test_a_server_that_never_answers_is_left(cache, silent_server, monkeypatch, capsys):
    assert vae_mnist.SERVER_PATIENCE == 5
    monkeypatch.setattr(vae_mnist, "SERVER_PATIENCE", 0.5)
    assert_bundled(capsys, "no answer in 0.5 s")


def test_a_download_that_stalls_is_left(cache, serve, mnist, monkeypatch, capsys):
    monkeypatch.setattr(vae_mnist, "SERVER_PATIENCE", 0.5)
    serve(mnist[:1000], promised=len(mnist), stalls=True)
    assert_bundled(capsys, "no answer in 0.5 s")
    assert not cache.exists()


def test_a_home_that_cannot_be_written_moves_the_cache(serve, mnist, cache, monkeypatch, tmp_path):
    serve(mnist)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "missing" / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert vae_mnist.load_data().name == "MNIST"
    assert contents(tmp_path / ".keras" / "datasets") == {"mnist.npz": mnist}


def test_without_a_place_for_a_cache_the_download_is_used_all_the_same(
    serve, mnist, cache, monkeypatch, tmp_path, capsys, digits
):
    serve(mnist)
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
    monkeypatch.setattr(vae_mnist, "MNIST_URL", "http://127.0.0.1:9/mnist.npz")
    monkeypatch.setattr(vae_mnist, "BUNDLED_DIGITS", tmp_path / "mnist_5k.npz")
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data()
    assert str(error.value).startswith("MNIST could not be downloaded (")
    assert str(error.value).endswith(
        "mnist_5k.npz is missing; give its mnist.npz or the directory of its four IDX files with "
        "--data"
    )
