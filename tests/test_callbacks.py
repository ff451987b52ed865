"""Keras' callbacks work in `fit`, one of each kind, and the script's own prints a table.

What they change in a compiled epoch is in test_train.py.
"""

import keras
import numpy as np
import pytest
from helpers import LOG_NAMES, LOSS_NAMES
from keras import callbacks

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


# ---- What they get -------------------------------------------------------------------------------


def test_the_logs_have_losses_and_weight_of_the_epoch(fit, model):
    seen = []
    history = fit(model, epochs=2, callbacks=[at_epoch_end(lambda *args: seen.append(args))])
    assert [epoch for epoch, _ in seen] == [0, 1]
    for epoch, logs in seen:
        assert set(logs) == set(LOG_NAMES)
        assert all(type(value) is float for value in logs.values())
        assert logs == {name: values[epoch] for name, values in history.history.items()}
        assert logs["loss"] == pytest.approx(logs["reconstruction"] + logs["kl"])


def test_to_the_hooks_of_batches_an_epoch_is_a_batch(fit, model):
    calls = []
    listener = callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: calls.append((batch, sorted(logs)))
    )
    fit(model, epochs=2, callbacks=[listener])
    assert calls == 2 * [(0, ["kl", "kl_weight", "loss", "reconstruction"])]


def test_without_validation_images_there_are_no_losses_of_them(fit, model, capsys):
    table = vae_mnist.EpochTable()
    history = fit(model, validation_data=None, callbacks=[table]).history
    assert sorted(history) == ["kl", "kl_weight", "loss", "reconstruction"]
    assert len(capsys.readouterr().out.splitlines()[-1].split()) == 4


# ---- What they change ----------------------------------------------------------------------------


def test_early_stopping_restores_the_best_weights(fit, model):
    weights = []
    keep = at_epoch_end(lambda *args: weights.append(model.get_weights()[0]))
    stopping = callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    history = fit(model, epochs=9, callbacks=[keep, Diverging(3, 1, 2, 2), stopping])
    assert history.epoch == [0, 1, 2, 3]
    np.testing.assert_array_equal(model.get_weights()[0], weights[1])


# ---- What they keep ------------------------------------------------------------------------------


def test_a_model_checkpoint_keeps_the_best_epoch(fit, model, tmp_path):
    weights = []
    keep = at_epoch_end(lambda *args: weights.append(model.get_weights()[0]))
    checkpoint = callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    fit(model, epochs=3, callbacks=[keep, Diverging(3, 1, 2), checkpoint])
    best = keras.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(best.get_weights()[0], weights[1])


def test_backup_and_restore_continues_at_the_epoch_that_was_interrupted(fit, model, tmp_path):
    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    backup = callbacks.BackupAndRestore(tmp_path)
    interruption = callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(model, epochs=4, callbacks=[backup, interruption])
    restored = []
    keep = callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: restored.append(other.get_weights()[0])
    )
    other = vae_mnist.VAE()
    history = fit(other, epochs=4, callbacks=[callbacks.BackupAndRestore(tmp_path), keep])
    assert history.epoch == [2, 3]
    np.testing.assert_array_equal(restored[0], model.get_weights()[0])


def test_a_progress_bar_shows_the_losses_of_the_epoch_itself(fit, model, capsys):
    history = fit(model, epochs=2, verbose=2).history
    out = capsys.readouterr().out
    assert "Epoch 2/2" in out
    for epoch in range(2):
        for name in LOSS_NAMES:
            for logged in (name, f"val_{name}"):
                assert f"- {logged}: {history[logged][epoch]:.4f}" in out


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
