"""The VAE once more, in NumPy and in double precision: what the tests compare the script with."""

import numpy as np


class Reference:
    """Network, loss, gradients and Adam, written out for the ten arrays of the weights."""

    def __init__(self, weights, reconstruction_loss="squared-error", kl_weight=1.0):
        """Copies the `weights`, in the order of the layers, each with its biases."""
        self.weights = [np.array(array, np.float64) for array in weights]
        self.is_cross_entropy = reconstruction_loss == "cross-entropy"
        self.kl_weight = kl_weight
        self.moments = [(np.zeros_like(w), np.zeros_like(w)) for w in self.weights]
        self.steps = 0

    def encode(self, images):
        """Bytes [count, 784] -> z_mean and z_log_sigma_sq."""
        w1, b1, mean_w, mean_b, log_w, log_b, *_ = self.weights
        h1 = np.maximum(images / 255 @ w1 + b1, 0)
        return h1 @ mean_w + mean_b, h1 @ log_w + log_b

    def sample(self, images, epsilon):
        z_mean, z_log_sigma_sq = self.encode(images)
        return z_mean + np.sqrt(np.exp(z_log_sigma_sq)) * epsilon

    def decode(self, z):
        """The decoder's outputs, which are logits with cross-entropy."""
        *_, w2, b2, w3, b3 = self.weights
        return np.maximum(z @ w2 + b2, 0) @ w3 + b3

    def pixels(self, z):
        """As shown, in [0, 1]."""
        outputs = self.decode(z)
        return 1 / (1 + np.exp(-outputs)) if self.is_cross_entropy else outputs.clip(0, 1)

    def losses(self, images, epsilon):
        """The mean loss and its parts."""
        x = images / 255
        z_mean, z_log_sigma_sq = self.encode(images)
        outputs = self.decode(self.sample(images, epsilon))
        if self.is_cross_entropy:
            errors = np.logaddexp(0, outputs) - x * outputs
        else:
            errors = (outputs - x) ** 2 / 2
        kl = (np.exp(z_log_sigma_sq) + z_mean**2 - 1 - z_log_sigma_sq) / 2
        error, kl = errors.sum(axis=1).mean(), kl.sum(axis=1).mean()
        return {"loss": error + self.kl_weight * kl, "reconstruction": error, "kl": kl}

    def gradients(self, images, epsilon):
        """Those of the mean loss, by the chain rule from the last layer to the first."""
        w1, b1, mean_w, mean_b, log_w, log_b, w2, b2, w3, b3 = self.weights
        x, count = images / 255, len(images)
        h1 = np.maximum(x @ w1 + b1, 0)
        mean, log_variance = h1 @ mean_w + mean_b, h1 @ log_w + log_b
        noise = np.exp(log_variance / 2) * epsilon
        h2 = np.maximum((mean + noise) @ w2 + b2, 0)
        outputs = h2 @ w3 + b3
        if self.is_cross_entropy:
            outputs = 1 / (1 + np.exp(-outputs))
        to_outputs = (outputs - x) / count
        to_h2 = to_outputs @ w3.T * (h2 > 0)
        to_z = to_h2 @ w2.T
        to_mean = to_z + self.kl_weight * mean / count
        to_log = to_z * noise / 2 + self.kl_weight * (np.exp(log_variance) - 1) / 2 / count
        to_h1 = (to_mean @ mean_w.T + to_log @ log_w.T) * (h1 > 0)
        layers = [(x, to_h1), (h1, to_mean), (h1, to_log), (mean + noise, to_h2), (h2, to_outputs)]
        return [
            gradient
            for inputs, to_layer in layers
            for gradient in (inputs.T @ to_layer, to_layer.sum(axis=0))
        ]

    def step(self, images, epsilon, learning_rate):
        """One step of Adam, with TensorFlow 1's constants."""
        self.steps += 1
        rate = learning_rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        gradients = self.gradients(images, epsilon)
        for weights, (mean, variance), gradient in zip(
            self.weights, self.moments, gradients, strict=True
        ):
            mean += 0.1 * (gradient - mean)
            variance += 0.001 * (gradient**2 - variance)
            weights -= rate * mean / (np.sqrt(variance) + 1e-8)

    def train(self, images, draws, learning_rate=0.001, validation=None, kl_weights=None):
        """Return the logs of each epoch as lists by name.

        `draws` are the order and the noise of each epoch, `validation` images and their noise,
        `kl_weights` those of a warm-up.
        """
        history = {}
        for epoch, (order, epsilon) in enumerate(draws):
            if kl_weights is not None:
                self.kl_weight = kl_weights[epoch]
            rows = []
            for indices, noise in zip(np.asarray(order), np.asarray(epsilon), strict=True):
                rows.append(self.losses(images[indices], noise))
                self.step(images[indices], noise, learning_rate)
            logs = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
            logs["kl_weight"] = self.kl_weight
            if validation is not None:
                after = self.losses(*validation)
                logs |= {f"val_{name}": value for name, value in after.items()}
            for name, value in logs.items():
                history.setdefault(name, []).append(value)
        return history
