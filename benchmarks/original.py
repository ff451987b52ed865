"""The original program's graph, written for TensorFlow 1 as it was: variables, cost and optimiser.

The tests compare the port with it; the benchmarks train it.
"""

from typing import Any, NamedTuple

import tensorflow as tf

v1 = tf.compat.v1

SHAPES = {
    "w1": (784, 256),
    "b1": (256,),
    "mean_w1": (256, 2),
    "mean_b1": (2,),
    "log_sigma_w1": (256, 2),
    "log_sigma_b1": (2,),
    "w2": (2, 256),
    "b2": (256,),
    "w3": (256, 784),
    "b3": (784,),
}


class Original(NamedTuple):
    """The graph's tensors and operations, for a session to run or feed."""

    graph: tf.Graph
    variables: dict[str, Any]
    initial_values: dict[str, Any]  # placeholders that `assign` reads
    assign: Any
    x: Any
    epsilon: Any  # drawn anew in every run unless it is fed
    z_mean: Any
    z_log_sigma_sq: Any
    z: Any
    reconstruction: Any
    squared_error: Any  # of the whole batch, or of each image without `listing_cost`
    kl: Any  # of each image
    cost: Any
    gradients: Any
    train: Any


def build_original(listing_cost=True):
    """Builds the graph. The listing adds the whole batch's squared error to each image's KL.

    Without `listing_cost` it adds each image's own, as the port does.
    """
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 784])
        variables = {}
        for name, shape in SHAPES.items():
            is_weight = len(shape) == 2
            start = (
                tf.random.truncated_normal(shape, stddev=0.001) if is_weight else tf.zeros(shape)
            )
            variables[name] = v1.get_variable(name, initializer=start, use_resource=False)
        initial_values = {name: v1.placeholder(tf.float32, shape) for name, shape in SHAPES.items()}
        assign = [v1.assign(variables[name], initial_values[name]) for name in SHAPES]

        def layer(inputs, weight, bias):
            return tf.matmul(inputs, variables[weight]) + variables[bias]

        h1 = tf.nn.relu(layer(x, "w1", "b1"))
        z_mean = layer(h1, "mean_w1", "mean_b1")
        z_log_sigma_sq = layer(h1, "log_sigma_w1", "log_sigma_b1")
        epsilon = v1.placeholder_with_default(tf.random.normal(tf.shape(z_mean)), [None, 2])
        z = z_mean + tf.sqrt(tf.exp(z_log_sigma_sq)) * epsilon
        h2 = tf.nn.relu(layer(z, "w2", "b2"))
        reconstruction = layer(h2, "w3", "b3")

        squared_error = 0.5 * tf.reduce_sum(
            tf.pow(reconstruction - x, 2.0), None if listing_cost else 1
        )
        kl = -0.5 * tf.reduce_sum(
            1 + z_log_sigma_sq - tf.square(z_mean) - tf.exp(z_log_sigma_sq), 1
        )
        cost = tf.reduce_mean(squared_error + kl)
        optimizer = v1.train.AdamOptimizer(learning_rate=0.001)
        # Not by tf.gradients: only compute_gradients, which minimize() calls, keeps Adam from
        # changing a weight that another gradient of the same run has still to read.
        gradients_and_variables = optimizer.compute_gradients(cost, list(variables.values()))
        train = optimizer.apply_gradients(gradients_and_variables)
    return Original(
        graph,
        variables,
        initial_values,
        assign,
        x,
        epsilon,
        z_mean,
        z_log_sigma_sq,
        z,
        reconstruction,
        squared_error,
        kl,
        cost,
        [gradient for gradient, _ in gradients_and_variables],
        train,
    )
