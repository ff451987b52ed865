// ==== The model, and what is computed of it: functions of numbers that know nothing of the page ===

const sigmoid = x => 1 / (1 + Math.exp(-x));

/** The error function, by a series of which all terms have one sign. */
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-12; n++) {
    term *= 2 * x ** 2 / (2 * n + 1);
    sum += term;
  }
  return 2 / Math.sqrt(Math.PI) * Math.exp(-(x ** 2)) * sum;
}

const ACTIVATIONS = {  // by Keras' names; some have a number that shapes them
  relu: x => Math.max(x, 0),
  leaky_relu: (x, slope) => x > 0 ? x : slope * x,
  elu: (x, alpha) => x > 0 ? x : alpha * Math.expm1(x),
  selu: x => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
  gelu: x => x / 2 * (1 + erf(x / Math.SQRT2)),
  silu: x => x * sigmoid(x),
  softplus: x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  tanh: Math.tanh,
  sigmoid,
};

/** The outputs of a dense layer; `weights` hold a row of outputs for each input. */
function dense(inputs, {weights, biases}) {
  const outputs = Float64Array.from(biases);
  const width = biases.length;
  for (let i = 0; i < inputs.length; i++) {
    if (inputs[i] === 0) continue;  // most pixels, and with ReLU half of the hidden units
    const row = i * width;
    for (let j = 0; j < width; j++) outputs[j] += inputs[i] * weights[row + j];
  }
  return outputs;
}

/** The outputs of a list of steps. */
function run(steps, inputs) {
  let values = Float64Array.from(inputs);
  for (const step of steps) {
    if (step.weights) {
      values = dense(values, step);
    } else if (step.factors) {
      values = values.map((x, i) => x * step.factors[i] + step.offsets[i]);
    } else {
      values = values.map(x => ACTIVATIONS[step.activation](x, step.parameter));
    }
  }
  return values;
}

/** Pixels in [0, 1] -> the mean and the log-variance of their Gaussian, two numbers each. */
function encode(model, pixels) {
  const hidden = run(model.shared, pixels);
  return {mean: [...run(model.mean, hidden)], logVariance: [...run(model.logVariance, hidden)]};
}

/** A code -> what the decoder says of each pixel: grey levels, or with cross-entropy logits. */
const decodeRaw = (model, z) => run(model.decoder, z);

/** A code -> pixels as they are shown, not yet clipped to [0, 1]. */
function decode(model, z) {
  const raw = decodeRaw(model, z);
  return model.crossEntropy ? raw.map(sigmoid) : raw;
}

const sigmaOf = ({logVariance}) => logVariance.map(value => Math.exp(value / 2));

/** A number drawn from N(0, 1), as Box and Muller do. */
function drawNormal() {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
  return radius * Math.cos(2 * Math.PI * Math.random());
}

/** A code of the Gaussian of an image: z = mean + sigma * epsilon. */
function sampleLatent(encoded, epsilon) {
  const sigma = sigmaOf(encoded);
  return encoded.mean.map((mean, j) => mean + sigma[j] * epsilon[j]);
}

/** The reconstruction loss of each pixel, in nats. */
function pixelLosses(model, raw, pixels) {
  return raw.map((value, i) => model.crossEntropy
    ? ACTIVATIONS.softplus(value) - value * pixels[i]
    : (value - pixels[i]) ** 2 / 2);
}

// Nodes and weights of Gauss and Hermite, for the expectation over N(0, 1) of smooth functions.
const NODES = [[-Math.sqrt(3), 1 / 6], [0, 2 / 3], [Math.sqrt(3), 1 / 6]];

/** The reconstruction loss of each pixel, expected for codes sampled from the Gaussian of an image. */
function expectedLosses(model, encoded, pixels) {
  const total = new Float64Array(pixels.length);
  for (const [e1, weight1] of NODES) {
    for (const [e2, weight2] of NODES) {
      const raw = decodeRaw(model, sampleLatent(encoded, [e1, e2]));
      const losses = pixelLosses(model, raw, pixels);
      for (let i = 0; i < total.length; i++) total[i] += weight1 * weight2 * losses[i];
    }
  }
  return total;
}

/** The KL divergence of the Gaussian of an image from N(0, I), in nats. */
function klDivergence({mean, logVariance}) {
  const terms = mean.map((m, j) => 1 + logVariance[j] - m ** 2 - Math.exp(logVariance[j]));
  return -(terms[0] + terms[1]) / 2;
}

/** The classes of the `count` codes nearest to the code `z`; that of number `except` is left out. */
function nearestClasses(z, codes, labels, count, except) {
  const best = [];  // pairs of squared distance and class, ascending
  for (let i = 0; i < labels.length; i++) {
    if (i === except) continue;
    const distance = (codes[2 * i] - z[0]) ** 2 + (codes[2 * i + 1] - z[1]) ** 2;
    if (best.length === count && distance >= best[count - 1][0]) continue;
    let place = best.length;
    while (place > 0 && best[place - 1][0] > distance) place--;
    best.splice(place, 0, [distance, labels[i]]);
    if (best.length > count) best.pop();
  }
  return best.map(([, label]) => label);
}

/** Pairs of a class and how many of `voters` have it, most first; of equal ones the lower class. */
function countVotes(voters) {
  const votes = new Map();
  for (const voter of voters) votes.set(voter, (votes.get(voter) ?? 0) + 1);
  return [...votes].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
}

/** Numbers between `first` and `second`, `part` of the way from one to the other. */
function between(first, second, part) {
  return first.map((value, i) => value + (second[i] - value) * part);
}
