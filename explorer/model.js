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

const ACTIVATIONS = {  // by Keras' names
  relu: x => Math.max(x, 0),
  leaky_relu: x => x > 0 ? x : 0.2 * x,
  elu: x => x > 0 ? x : Math.expm1(x),
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
      values = values.map(ACTIVATIONS[step.activation]);
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
const NODES = [[-2.8569700138728056, 0.011257411327720688],
  [-1.355626179974266, 0.22207592200561263], [0, 8 / 15],
  [1.355626179974266, 0.22207592200561263], [2.8569700138728056, 0.011257411327720688]];

/** The expectation over the Gaussian of an image of what `add(code, weight)` adds up. */
function overGaussian(gaussian, add) {
  for (const [e1, weight1] of NODES) {
    for (const [e2, weight2] of NODES) add(sampleLatent(gaussian, [e1, e2]), weight1 * weight2);
  }
}

/** The reconstruction loss of each pixel, expected for codes sampled from the Gaussian of an image. */
function expectedLosses(model, gaussian, pixels) {
  const total = new Float64Array(pixels.length);
  overGaussian(gaussian, (z, weight) => {
    const losses = pixelLosses(model, decodeRaw(model, z), pixels);
    for (let i = 0; i < total.length; i++) total[i] += weight * losses[i];
  });
  return total;
}

/** The KL divergence of the Gaussian of an image from N(0, I), in nats. */
function klDivergence({mean, logVariance}) {
  const terms = mean.map((m, j) => 1 + logVariance[j] - m ** 2 - Math.exp(logVariance[j]));
  return -(terms[0] + terms[1]) / 2;
}

/**
 * The `count` codes nearest to the code `z`, nearest first, as pairs of distance and place; that of
 * place `except` is left out. `codes` hold two numbers for each.
 */
function nearestCodes(z, codes, count, except) {
  const best = [];
  for (let i = 0; i < codes.length / 2; i++) {
    if (i === except) continue;
    const square = (codes[2 * i] - z[0]) ** 2 + (codes[2 * i + 1] - z[1]) ** 2;
    if (best.length === count && square >= best[count - 1][0]) continue;
    let place = best.length;
    while (place > 0 && best[place - 1][0] > square) place--;
    best.splice(place, 0, [square, i]);
    if (best.length > count) best.pop();
  }
  return best.map(([square, place]) => [Math.sqrt(square), place]);
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
