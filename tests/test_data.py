"""Every form of data set is read alike, and whatever is no data set is refused."""

import gzip

import numpy as np
import pytest
from conftest import BUNDLED, IDX_NAMES, KEYS, idx_bytes, write_idx

import vae_mnist


@pytest.fixture(params=["npz", "idx", "idx.gz"])
def source(request, tmp_path, digits, small_file):
    """The same digits in each of the three forms."""
    if request.param == "npz":
        return small_file
    return write_idx(tmp_path / "idx files", digits, compress=request.param == "idx.gz")


def test_every_form_gives_the_same_split(source, digits):
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


def test_images_of_any_integer_type_are_stored_as_bytes(tmp_path, digits):
    np.savez(tmp_path / "wide.npz", **{key: array.astype(">i8") for key, array in digits.items()})
    data = vae_mnist.load_data(tmp_path / "wide.npz")
    assert data.x_test.dtype == np.uint8
    np.testing.assert_array_equal(data.x_test, digits["x_test"].reshape(60, 784))


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


def test_scaled_pixels_are_from_0_to_1():
    scaled = vae_mnist.scale(np.array([0, 51, 255], np.uint8))
    np.testing.assert_array_equal(scaled, np.array([0, 0.2, 1], np.float32))


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


def loads_or_is_refused(path):
    """Loads `path`; True for a valid data set, False for the clear error, else an exception."""
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
    for case in range(400):
        (np.savez, np.savez_compressed)[case % 2](path, **few)
        path.write_bytes(mutate(path.read_bytes(), rng))
        outcomes.add(loads_or_is_refused(path))
    assert outcomes == {True, False}


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])
def test_a_mutated_idx_file_is_a_data_set_or_the_clear_error(tmp_path, digits, compress):
    few = {key: array[:20] for key, array in digits.items()}
    directory = write_idx(tmp_path / "idx", few, compress)
    originals = {path: path.read_bytes() for path in directory.iterdir()}
    rng = np.random.default_rng(1)
    outcomes = set()
    for path, content in originals.items():
        for _ in range(100):
            path.write_bytes(mutate(content, rng))
            outcomes.add(loads_or_is_refused(directory))
        path.write_bytes(content)
    assert False in outcomes
    assert loads_or_is_refused(directory)


def test_a_promise_of_many_images_reserves_no_memory(tmp_path, digits):
    resource = pytest.importorskip("resource", reason="needs POSIX limits of memory")
    directory = write_idx(tmp_path / "idx", digits)
    path = directory / IDX_NAMES["x_train"]
    promise = 0xFFFFFFFF.to_bytes(4, "big")  # 3.4 TB of images
    path.write_bytes(path.read_bytes()[:4] + promise + path.read_bytes()[8:])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(vae_mnist.InputError, match=r"promises 3,367,254,359,280 values.*188,160"):
        vae_mnist.load_data(directory)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


def test_idx_files_survive_a_round_trip():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert idx_bytes(array)[:4] == b"\0\0\x08\x03"
    assert idx_bytes(array)[-24:] == bytes(range(24))


def test_the_bundled_file_has_the_layout_of_keras():
    with np.load(BUNDLED) as archive:
        assert {key: archive[key].shape for key in archive} == dict(
            zip(KEYS, [(4000, 28, 28), (4000,), (1000, 28, 28), (1000,)], strict=True)
        )
        assert {archive[key].dtype for key in archive} == {np.dtype(np.uint8)}
