"""Training: each step and log is that of the reference; `compile` sets optimizer and XLA."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import LOG_NAMES, evaluation_noise
from reference import Reference

import vae_mnist


def draws_of_epochs(count, batch_size, epochs, seed=0):
    return [vae_mnist.epoch_draws(seed, count, batch_size, 2, epoch) for epoch in range(epochs)]


def assert_history(history, expected):
    assert sorted(history.history) == sorted(expected) == sorted(LOG_NAMES)
    for name, values in expected.items():
        np.testing.assert_allclose(history.history[name][: len(values)], values, rtol=1e-4)


# ---- What is computed ----------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "xla"), [("squared-error", True), ("cross-entropy", False)])
def test_the_history_and_the_weights_are_those_of_the_reference(loss, xla, data, monkeypatch):
    monkeypatch.setattr(vae_mnist, "EVALUATION_BATCH_SIZE", 20)  # and a batch of ten, weighing half
    images, validation_images = data.x_train[:130], data.x_validation[:30]
    keras.utils.set_random_seed(3)
    model = vae_mnist.VAE(reconstruction_loss=loss, kl_weight=2)
    reference = Reference(model.get_weights(), loss, kl_weight=2)
    model.compile(optimizer=vae_mnist.adam(0.003), jit_compile=xla)
    history = model.fit(
        images,
        validation_data=validation_images,
        epochs=3,
        batch_size=40,
        seed=3,
        verbose=0,
    )
    expected = reference.train(
        images,
        draws_of_epochs(130, 40, 3, seed=3),
        learning_rate=0.003,
        validation=(validation_images, evaluation_noise(30, 2, seed=3)),
    )
    assert_history(history, expected)
    for weights, expected_weights in zip(model.get_weights(), reference.weights, strict=True):
        np.testing.assert_allclose(weights, expected_weights, rtol=0, atol=3e-4)


def test_the_default_settings_are_those_of_the_original(model, data):
    reference = Reference(model.get_weights())
    images, validation_images = data.x_train[:130], data.x_validation[:20]
    history = model.fit(images, validation_data=validation_images, seed=0, verbose=0)
    noise = evaluation_noise(20, 2, seed=0)
    expected = reference.train(
        images, draws_of_epochs(130, 128, 2), validation=(validation_images, noise)
    )
    assert history.epoch == list(range(50))
    assert_history(history, expected)


def test_pixels_are_trained_on_as_their_bytes_are_and_without_a_note(fit, eagerly, data, capsys):
    histories = []
    for x in (data.x_train[:60], (data.x_train[:60] / 255).reshape(60, 28, 28)):
        keras.utils.set_random_seed(0)
        histories.append(fit(vae_mnist.VAE(), x=x).history["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-6)
    assert capsys.readouterr().err == ""


# ---- A second training ---------------------------------------------------------------------------


class Traced(vae_mnist.VAE):
    """Counts how often Python runs its loss for a training, which is once a compilation."""

    factor_in_training = 1.0
    traced = 0

    def loss_terms(self, x, epsilon, training=False):
        Traced.traced += bool(training)
        reconstruction, kl = super().loss_terms(x, epsilon, training)
        return self.factor_in_training * reconstruction, kl


@pytest.fixture
def traced(data):
    """A trained model of the class above, and a function that trains it and counts."""
    keras.utils.set_random_seed(0)
    model = Traced()
    model.compile(optimizer=keras.optimizers.SGD(0.0), jit_compile=False)
    settings = {"epochs": 1, "batch_size": 20, "seed": 0, "verbose": 0}

    def train(x=data.x_train[:60], **changes):
        before = Traced.traced
        loss = model.fit(x, **settings | changes).history["reconstruction"][0]
        return Traced.traced - before, loss

    assert train()[0] == 1
    return model, train


def test_a_second_training_compiles_nothing_and_is_on_the_images_it_is_given(traced):
    model, train = traced
    white = np.full((60, 784), 255, np.uint8)
    assert train(white) == (0, pytest.approx(784 / 2, rel=0.2))
    assert len(model.hidden.pixels.value()) == 0  # and keeps none of them


def test_evaluating_predicting_and_saving_leave_the_training_compiled(traced, data, tmp_path):
    model, train = traced
    model.evaluate(data.x_test[:20], verbose=0)
    model.predict(data.x_test[:20], verbose=0)
    model.save(tmp_path / "vae.keras")
    model.kl_weight = 2.0
    assert train()[0] == 0


def test_a_training_on_other_counts_of_images_and_batches_is_right(traced, data):
    model, train = traced
    _, noise = vae_mnist.epoch_draws(0, 30, 30, 2, 0)
    order, _ = vae_mnist.epoch_draws(0, 30, 30, 2, 0)
    reconstruction, _ = model.image_losses(data.x_train[:30][order[0]], noise[0])
    _, loss = train(data.x_train[:30], batch_size=30)
    assert loss == pytest.approx(np.mean(reconstruction), rel=1e-4)


CHANGES = {
    "an attribute": lambda model: setattr(model, "factor_in_training", 2.0),
    "a part": lambda model: setattr(model, "encoder", vae_mnist.build_encoder()),
    "the loss": lambda model: setattr(model, "reconstruction_loss", "cross-entropy"),
    "compile": lambda model: model.compile(keras.optimizers.SGD(0.0), jit_compile=False),
    "what is trainable": lambda model: setattr(model.decoder, "trainable", False),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_model_is_compiled_anew(change, traced, data):
    model, train = traced
    change(model)
    model.optimizer = keras.optimizers.SGD(0.0)  # for which a replaced part is new
    count, loss = train(batch_size=60)
    assert count == 1
    order, epsilon = vae_mnist.epoch_draws(0, 60, 60, 2, 0)
    reconstruction, _ = model.image_losses(data.x_train[order[0]], epsilon[0])
    assert loss == pytest.approx(np.mean(reconstruction), rel=1e-4)


def test_no_source_file_is_read_for_a_training_or_an_evaluation(fit, model, data, monkeypatch):
    """It may have been edited since it was imported: other lines would be compiled than run."""
    read = []
    getsource = inspect.getsource

    def record(thing):
        read.append(getattr(inspect.unwrap(thing), "__module__", None))
        return getsource(thing)

    monkeypatch.setattr(inspect, "getsource", record)
    fit(model)
    model.evaluate(data.x_test[:20], verbose=0)
    assert "vae_mnist" not in read


def test_a_checkpoint_holds_no_images(eagerly, fit, model, tmp_path):
    sizes = []
    save = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *args: sizes.append(
            sum(
                np.prod(shape)
                for _, shape in tf.train.list_variables(
                    tf.train.Checkpoint(model).save(tmp_path / "checkpoint")
                )
            )
        )
    )
    fit(model, callbacks=[save])
    assert 404_244 <= sizes[0] < 405_000


def test_the_data_set_of_an_epochs_draws_ends(eagerly, fit, model, monkeypatch):
    """Tools such as MLflow walk through what `fit` hands to Keras."""
    handed = []
    fit_of_keras = keras.Model.fit
    monkeypatch.setattr(
        keras.Model,
        "fit",
        lambda *args, **options: handed.append(args[1]) or fit_of_keras(*args, **options),
    )
    fit(model, epochs=3, initial_epoch=1)
    assert len(list(handed[0])) == 2


# ---- What callbacks change in a compiled epoch ---------------------------------------------------


@pytest.mark.parametrize("is_variable", [False, True], ids=["a number", "a variable"])
def test_an_epoch_is_trained_with_the_kl_weight_set_as_it_begins(is_variable, fit, data):
    weights = (0.0, 0.5, 1.0)
    keras.utils.set_random_seed(0)
    variable = keras.Variable(7.0)
    model = vae_mnist.VAE(kl_weight=variable if is_variable else 7.0)
    reference = Reference(model.get_weights())

    def warm_up(epoch, logs):
        if is_variable:
            variable.assign(weights[epoch])
        else:
            model.kl_weight = weights[epoch]

    callback = keras.callbacks.LambdaCallback(on_epoch_begin=warm_up)
    history = fit(model, vae_mnist.adam(), epochs=3, callbacks=[callback]).history
    validation = data.x_validation[:20], evaluation_noise(20, 2, seed=0)
    expected = reference.train(
        data.x_train[:60], draws_of_epochs(60, 20, 3), validation=validation, kl_weights=weights
    )
    for name in LOG_NAMES:
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-3)


def test_a_learning_rate_scheduler_sets_the_steps(fit, model):
    weights = [model.get_weights()[0]]
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()[0])
    )
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 if epoch == 0 else 0.0)
    fit(model, epochs=2, callbacks=[schedule, keep])
    assert np.abs(weights[1] - weights[0]).max() > 0.001
    np.testing.assert_array_equal(weights[2], weights[1])


# ---- What is drawn -------------------------------------------------------------------------------


def test_an_epoch_takes_each_image_once_but_for_an_incomplete_batch():
    order, epsilon = vae_mnist.epoch_draws(0, 1030, 100, 2, 0)
    assert order.shape == (10, 100)
    assert epsilon.shape == (10, 100, 2)
    assert len(np.unique(order)) == 1000
    assert np.max(order) < 1030
    assert abs(np.corrcoef(np.ravel(order), np.arange(1000))[0, 1]) < 0.1


def test_every_epoch_and_every_seed_has_draws_of_its_own():
    draws = [
        vae_mnist.epoch_draws(seed, 200, 20, 2, epoch)
        for seed in (0, 1, 2**32 - 1)
        for epoch in (0, 1, 49)
    ]
    for arrays in zip(*draws, strict=True):
        assert len({np.asarray(array).tobytes() for array in arrays}) == len(draws)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: vae_mnist.epoch_draws(0, 20_000, 100, 2, 0)[1],
        lambda: evaluation_noise(20_000, 2, seed=0),
        lambda: vae_mnist.VAE().sample_prior(20_000, seed=0),
    ],
    ids=["training", "evaluation", "samples"],
)
def test_noise_is_standard_normal(draw):
    noise = np.reshape(draw(), (20_000, 2))
    assert noise.dtype == np.float32
    assert np.abs(noise.mean(axis=0)).max() < 5 / np.sqrt(20_000)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(2), atol=0.05)


def test_without_a_seed_that_of_keras_fixes_the_draws(eagerly, fit, model):
    initial_weights = model.get_weights()
    losses = []
    for seed in (1, 1, None):
        if seed is not None:
            keras.utils.set_random_seed(seed)
        model.set_weights(initial_weights)
        losses.append(fit(model, seed=None).history["loss"])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


# ---- Interruptions -------------------------------------------------------------------------------


def test_a_saved_training_continues_as_if_it_had_not_been_interrupted(eagerly, data, tmp_path):
    settings = {"x": data.x_train[:60], "validation_data": data.x_validation[:20]}
    settings |= {"batch_size": 20, "seed": 0, "verbose": 0}
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        models.append(vae_mnist.VAE())
        models[-1].compile(optimizer=vae_mnist.adam(), jit_compile=False)
    whole, part = models
    expected = whole.fit(epochs=4, **settings).history
    beginning = part.fit(epochs=2, **settings).history
    part.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    end = loaded.fit(epochs=4, initial_epoch=2, **settings)
    assert end.epoch == [2, 3]
    for name in LOG_NAMES:
        assert beginning[name] + end.history[name] == expected[name]
    for weights, of_whole in zip(loaded.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, of_whole)


# ---- What is rejected ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [0, 61])
def test_an_impossible_batch_size_is_rejected(eagerly, batch_size, fit, model):
    with pytest.raises(ValueError, match=f"a batch of {batch_size} from 60 training images"):
        fit(model, batch_size=batch_size)


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": True},
        {"steps_per_epoch": 3},
        {"validation_split": 0.1, "validation_data": None},
        {"sample_weight": np.ones(60)},
        {"epoch": 5},
    ],
    ids=str,
)
def test_options_that_would_have_no_effect_are_rejected(options, eagerly, fit, model):
    with pytest.raises((TypeError, ValueError), match="|".join(options)):
        fit(model, **options)


def test_labels_are_rejected(model, data):
    x, y = data.x_test[:60], data.y_test[:60]
    with pytest.raises(vae_mnist.InputError, match="a VAE takes images alone, one array, without"):
        model.fit(x, validation_data=(x, y), batch_size=20)
    for call in (
        lambda: model.fit(x, y),
        lambda: model.fit(x, y=y, batch_size=20),
        lambda: model.evaluate(x, y),
        lambda: model.evaluate(x, y=y),
    ):
        with pytest.raises((TypeError, ValueError), match=r"positional|y"):
            call()


def test_a_data_set_is_rejected(model, data):
    images = tf.data.Dataset.from_tensor_slices((data.x_test[:60], data.y_test[:60])).batch(20)
    for call in (model.fit, model.evaluate):
        with pytest.raises(vae_mnist.InputError, match="images are object"):
            call(images)


@pytest.mark.parametrize(
    ("method", "call"), [("train_on_batch", "fit"), ("test_on_batch", "evaluate")]
)
def test_steps_of_single_batches_are_rejected_in_a_sentence(method, call, model, data):
    sentence = rf"call {call}\(images\): a VAE makes the batches itself"
    with pytest.raises(vae_mnist.InputError, match=sentence):
        getattr(model, method)(data.x_train[:20], data.y_train[:20])


def test_a_step_of_ones_own_for_batches_is_rejected_in_a_sentence(fit):
    class WithStep(vae_mnist.VAE):
        def train_step(self, data):
            return {"loss": tf.reduce_mean(self(data[0])[2])}

    with pytest.raises(vae_mnist.InputError, match="override loss_terms, not train_step"):
        fit(WithStep())


def test_a_replaced_encoder_that_does_not_fit_is_rejected(eagerly, fit, model, monkeypatch):
    """Noise of two dimensions could be broadcast to a code of one."""
    monkeypatch.setattr(vae_mnist, "LATENT_SIZE", 1)
    model.encoder = vae_mnist.build_encoder()
    with pytest.raises(ValueError, match="expected axis -1"):
        fit(model)


def test_loss_terms_that_are_not_one_number_an_image_are_rejected(fit, model, monkeypatch):
    monkeypatch.setattr(model, "loss_terms", lambda *args: (tf.zeros(()), tf.zeros(2)))
    expected = r"loss_terms must return \['\(2,\)', '\(2,\)'\], not \['\(\)', '\(2,\)'\]"
    with pytest.raises(vae_mnist.InputError, match=expected):
        fit(model)


class InDict(vae_mnist.VAE):
    """A variable where Keras does not look for it."""

    def __init__(self):
        super().__init__()
        self.held = {"gain": tf.Variable(1.0, name="gain")}

    def loss_terms(self, x, epsilon, training=False):
        reconstruction, kl = super().loss_terms(x, epsilon, training)
        return self.held["gain"] * reconstruction, kl


class InModule(InDict):
    """The same in a tf.Module."""

    def __init__(self):
        super().__init__()
        module = tf.Module()
        module.gain = self.held["gain"]
        self.module = module


@pytest.mark.parametrize("kind", [InDict, InModule])
def test_variables_that_keras_would_never_train_are_named(kind, fit):
    with pytest.raises(ValueError, match=r"Keras never trains \['gain:0'\], which `add_weight`"):
        fit(kind())


# ---- What `compile` sets -------------------------------------------------------------------------


class NotForXLA(vae_mnist.VAE):
    """A model whose training, unlike its validation, XLA cannot compile."""

    def loss_terms(self, x, epsilon, training=False):
        reconstruction, kl = super().loss_terms(x, epsilon, training)
        if training:
            [kl] = tf.py_function(lambda kl: [kl], [kl], [kl.dtype])
            kl.set_shape(reconstruction.shape)
        return reconstruction, kl


def test_the_epoch_is_compiled_by_xla_where_compile_asks_for_it(fit):
    assert len(fit(NotForXLA(), jit_compile=False).epoch) == 1
    with pytest.raises(vae_mnist.InputError, match=r"compile\(optimizer=\.\.\., jit_compile=False"):
        fit(NotForXLA(), jit_compile=True)


def test_a_model_that_is_not_compiled_has_xla_and_adam():
    model = vae_mnist.VAE()
    assert model.jit_compile
    configs = [each.get_config() | {"name": ""} for each in (model.optimizer, vae_mnist.adam())]
    assert configs[0] == configs[1]


def test_without_xla_the_same_epoch_is_trained_and_a_note_says_so(monkeypatch, fit, model, capsys):
    ordinary_function = tf.function

    def function(python_function, jit_compile=None, **options):
        if not jit_compile:
            return ordinary_function(python_function, **options)

        def fail(*args):
            raise tf.errors.UnimplementedError(None, None, "no XLA")

        return fail

    monkeypatch.setattr(tf, "function", function)
    assert len(fit(model, jit_compile=True).epoch) == 1
    assert capsys.readouterr().err == "note: no XLA (no XLA): training without it, slower\n"


@pytest.mark.parametrize(("run_eagerly", "expected"), [(True, 2 * 3), (False, 1)])
def test_python_runs_once_or_eagerly_at_each_step(run_eagerly, expected, data):
    calls = []

    class Counting(vae_mnist.VAE):
        def loss_terms(self, x, epsilon, training=False):
            calls.append(training)
            return super().loss_terms(x, epsilon, training)

    model = Counting()
    model.compile(optimizer=vae_mnist.adam(), jit_compile=False, run_eagerly=run_eagerly)
    model.fit(data.x_train[:3], epochs=2, batch_size=1, verbose=0)
    assert calls.count(True) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": ["mse"]},
        {"weighted_metrics": ["mse"]},
        {"loss": "mse", "loss_weights": [1]},
        {"steps_per_execution": 10},
    ],
    ids=str,
)
def test_a_model_compiled_with_what_would_be_ignored_is_rejected(options, model, data):
    model.compile("adam", **options)
    for call in (model.fit, model.evaluate):
        with pytest.raises(vae_mnist.InputError, match="compile takes optimizer and jit_compile; "):
            call(data.x_train)


def test_metrics_of_a_subclass_are_in_the_logs(eagerly, fit, data):
    class WithMetric(vae_mnist.VAE):
        """One is an attribute, as Keras finds them, the other is added to `metrics`."""

        def __init__(self):
            super().__init__()
            self.brightness = keras.metrics.Mean("brightness")
            self.others = {"darkness": keras.metrics.Mean("darkness")}

        @property
        def metrics(self):
            return [self.others["darkness"], *super().metrics]

        def loss_terms(self, x, epsilon, training=False):
            self.brightness.update_state(x)
            self.others["darkness"].update_state(1 - x)
            return super().loss_terms(x, epsilon, training)

    history = fit(WithMetric(), epochs=2).history
    mean = data.x_train[:60].mean() / 255
    np.testing.assert_allclose(history["brightness"], 2 * [mean], rtol=1e-5)
    np.testing.assert_allclose(history["darkness"], 2 * [1 - mean], rtol=1e-5)
    expected = data.x_validation[:20].mean() / 255
    np.testing.assert_allclose(history["val_brightness"], 2 * [expected], rtol=1e-5)


def test_an_optimizer_that_is_compiled_after_a_training_makes_the_next_steps(eagerly, fit, model):
    fit(model)
    before = model.get_weights()
    fit(model, optimizer=keras.optimizers.SGD(0.0))
    for weights, of_before in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, of_before)


def test_an_optimizer_that_scales_the_loss_makes_the_same_steps(eagerly, fit):
    """Also of what a regularizer adds."""
    weights = []
    for scale in (None, 128.0):
        keras.utils.set_random_seed(0)
        model = vae_mnist.VAE()
        model.decoder.get_layer("h2").kernel.regularizer = keras.regularizers.L2(10.0)
        fit(model, keras.optimizers.SGD(0.01, loss_scale_factor=scale))
        weights.append(model.get_weights())
    for plain, scaled in zip(*weights, strict=True):
        np.testing.assert_allclose(plain, scaled, atol=1e-6)


def test_an_optimizer_that_averages_the_weights_leaves_the_averages(eagerly, model, fit):
    initial, seen = model.get_weights()[0], []
    optimizer = keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.999)
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(model.get_weights()[0])
    )
    fit(model, optimizer, callbacks=keep)
    # Three steps of 0.1; the average begins after the first and hardly moves.
    assert np.abs(seen[0] - initial).max() > 0.2
    assert np.abs(model.get_weights()[0] - initial).max() < 0.11


def test_six_models_in_one_process_print_no_warning(fit, caplog):
    """At the fifth, TensorFlow would warn of functions that are traced too often."""
    for _ in range(6):
        fit(vae_mnist.VAE(), validation_data=None)
    assert "retracing" not in caplog.text
