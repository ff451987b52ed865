"""Keras' callbacks work in `train` as in `fit`."""

import csv
import importlib

import keras
import numpy as np
import pytest
from helpers import LOG_NAMES, LOSS_NAMES
from keras import callbacks
from reference import Reference

import vae_mnist

pytestmark = pytest.mark.usefixtures("eagerly")


def at_epoch_end(function):
    return callbacks.LambdaCallback(on_epoch_end=function)


class Diverging(callbacks.Callback):
    """Puts other numbers in place of val_loss, for the callbacks after it."""

    def __init__(self, *losses):
        super().__init__()
        self.losses = losses

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.losses[epoch]


# ---- When they are called ------------------------------------------------------------------------


def test_the_hooks_are_called_in_the_order_of_fit(train, model):
    calls = []

    class Listener(callbacks.Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                return lambda *args, **kwargs: calls.append(name)
            return super().__getattribute__(name)

    train(model, epochs=2, callbacks=[Listener()])
    epoch = ["on_epoch_begin", "on_test_begin", "on_test_end", "on_epoch_end"]
    assert calls == ["on_train_begin", *epoch, *epoch, "on_train_end"]


def test_the_logs_have_losses_and_weight_of_the_epoch(train, model):
    seen = []
    history = train(model, epochs=2, callbacks=at_epoch_end(lambda *args: seen.append(args)))
    assert isinstance(history, callbacks.History)
    assert history is model.history
    assert [epoch for epoch, _ in seen] == [0, 1]
    for epoch, logs in seen:
        assert set(logs) == set(LOG_NAMES)
        assert all(type(value) is float for value in logs.values())
        assert logs == {name: values[epoch] for name, values in history.history.items()}
        assert logs["loss"] == pytest.approx(logs["reconstruction"] + logs["kl"])


def test_stop_training_ends_the_training_and_the_next_one_starts_anew(train, model):
    def stop(epoch, logs):
        model.stop_training = epoch == 1

    assert train(model, epochs=5, callbacks=at_epoch_end(stop)).epoch == [0, 1]
    assert train(model, epochs=3).epoch == [0, 1, 2]


def test_an_epoch_is_trained_with_the_kl_weight_set_as_it_begins(train, model, data):
    weights = (0.0, 0.5, 1.0)
    reference = Reference(model.get_weights())

    def warm_up(epoch, logs):
        model.kl_weight = weights[epoch]

    history = train(
        model,
        epochs=3,
        jit_compile=True,
        callbacks=callbacks.LambdaCallback(on_epoch_begin=warm_up),
    ).history
    settings = {"epochs": 3, "batch_size": 20, "learning_rate": 0.001}
    images = data.x_train[:60], data.x_validation[:20]
    rng = np.random.default_rng(0)
    expected = reference.train(*images, rng=rng, kl_weights=weights, **settings)
    for name in LOG_NAMES:
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-3)


# ---- Keras' own ----------------------------------------------------------------------------------


def test_early_stopping_restores_the_best_weights(train, model):
    weights = []
    keep = at_epoch_end(lambda *args: weights.append(model.get_weights()[0]))
    stopping = callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    history = train(model, epochs=9, callbacks=[keep, Diverging(3, 1, 2, 2), stopping])
    assert history.epoch == [0, 1, 2, 3]
    np.testing.assert_array_equal(model.get_weights()[0], weights[1])


def test_reduce_lr_on_plateau_makes_the_steps_smaller(train, model):
    plateau = callbacks.ReduceLROnPlateau(factor=1e-6, patience=1)
    weights = []
    keep = at_epoch_end(lambda *args: weights.append(model.get_weights()[0]))
    history = train(
        model, epochs=3, jit_compile=True, callbacks=[Diverging(1, 2, 2), plateau, keep]
    )
    np.testing.assert_allclose(history.history["learning_rate"], [1e-3, 1e-3, 1e-9], rtol=1e-4)
    assert np.abs(weights[1] - weights[0]).max() > 1e-4
    assert np.abs(weights[2] - weights[1]).max() < 1e-7


def test_a_learning_rate_scheduler_sets_the_steps(train, model):
    weights = [model.get_weights()[0]]
    keep = at_epoch_end(lambda *args: weights.append(model.get_weights()[0]))
    schedule = callbacks.LearningRateScheduler(lambda epoch: 0.01 if epoch == 0 else 0.0)
    train(model, epochs=2, jit_compile=True, callbacks=[schedule, keep])
    assert np.abs(weights[1] - weights[0]).max() > 0.001
    np.testing.assert_array_equal(weights[2], weights[1])


def test_a_model_checkpoint_keeps_the_best_epoch(train, model, tmp_path):
    weights = []
    keep = at_epoch_end(lambda *args: weights.append(model.get_weights()[0]))
    checkpoint = callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    train(model, epochs=3, callbacks=[keep, Diverging(3, 1, 2), checkpoint])
    best = keras.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(best.get_weights()[0], weights[1])


def test_a_csv_logger_writes_the_history(train, model, tmp_path):
    history = train(model, epochs=2, callbacks=callbacks.CSVLogger(tmp_path / "log.csv")).history
    with open(tmp_path / "log.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    for name in LOG_NAMES:
        assert [float(row[name]) for row in rows] == history[name]


def test_a_progress_bar_shows_the_losses_of_the_epoch_itself(train, model, capsys):
    history = train(model, epochs=2, callbacks=callbacks.ProgbarLogger()).history
    out = capsys.readouterr().out
    assert "Epoch 2/2" in out
    for epoch in range(2):
        for name in LOSS_NAMES:
            assert f"- val_{name}: {history[f'val_{name}'][epoch]:.4f}" in out


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_swapped_moving_averages_are_validated_and_kept(swap_on_epoch, train, model, data):
    """With a momentum of 1 the averages stay as they are after the first step."""
    optimizer = keras.optimizers.Adam(0.001, use_ema=True, ema_momentum=1.0)
    swap = callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)
    history = train(model, optimizer, epochs=3, callbacks=swap).history
    assert history["loss"][0] > history["loss"][1] > history["loss"][2]
    epsilon = np.random.default_rng(0).standard_normal((20, 2), np.float32)
    of_averages = vae_mnist.evaluate(model, data.x_validation[:20], epsilon).loss
    np.testing.assert_allclose(history["val_loss"], 3 * [of_averages], rtol=1e-5)


def test_tensorboard_gets_the_losses_of_each_epoch(train, model, tmp_path, monkeypatch):
    """Its package is not among the requirements: what is missing of it is stubbed."""
    logged = []
    summary = importlib.import_module("tensorflow.summary")
    monkeypatch.setattr(summary, "scalar", lambda *args, step: logged.append((*args, step)))
    history = train(model, epochs=2, callbacks=callbacks.TensorBoard(tmp_path / "logs")).history
    for name in LOSS_NAMES:
        for values in (history[name], history[f"val_{name}"]):
            for epoch, value in enumerate(values):
                assert (f"epoch_{name}", value, epoch) in logged


# ---- The script's own ----------------------------------------------------------------------------


def test_the_table_shows_which_losses_are_of_training_and_of_validation(capsys):
    logs = {"loss": 155.123, "reconstruction": 150.0, "kl": 5.123, "kl_weight": 1.0}
    logs |= {"val_loss": 156.0, "val_reconstruction": 149.456, "val_kl": 6.544}
    table = vae_mnist.EpochTable()
    table.on_train_begin()
    table.on_epoch_end(0, logs)
    table.on_epoch_end(19, logs | {"fid": 3.0})
    assert capsys.readouterr().out == (
        "       training                        validation\n"
        "epoch      loss  reconstruction    KL        loss  reconstruction    KL\n"
        "    1    155.12          150.00  5.12      156.00          149.46  6.54\n"
        "   20    155.12          150.00  5.12      156.00          149.46  6.54\n"
    )
