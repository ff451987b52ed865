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

/** What a list of steps makes of numbers. */
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

/** Pixels in [0, 1] -> the mean and the log-variance of their code, two numbers each. */
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

/** A code drawn from the distribution of an image: z = mean + sigma * epsilon. */
function sampleLatent(encoded) {
  const sigma = sigmaOf(encoded);
  return encoded.mean.map((mean, j) => mean + sigma[j] * drawNormal());
}

/** The reconstruction loss of each pixel, in nats. */
function pixelLosses(model, raw, pixels) {
  return raw.map((value, i) => model.crossEntropy
    ? ACTIVATIONS.softplus(value) - value * pixels[i]
    : (value - pixels[i]) ** 2 / 2);
}

/** The KL divergence of the distribution of an image from N(0, I), in nats. */
function klDivergence({mean, logVariance}) {
  const terms = mean.map((m, j) => 1 + logVariance[j] - m ** 2 - Math.exp(logVariance[j]));
  return -(terms[0] + terms[1]) / 2;
}

const NEIGHBOURS = 25;

/** The classes of the codes nearest to the code `z`; that of number `except` is left out. */
function nearestClasses(z, codes, labels, except) {
  const best = [];  // pairs of squared distance and class, ascending
  for (let i = 0; i < labels.length; i++) {
    if (i === except) continue;
    const distance = (codes[2 * i] - z[0]) ** 2 + (codes[2 * i + 1] - z[1]) ** 2;
    if (best.length === NEIGHBOURS && distance >= best[NEIGHBOURS - 1][0]) continue;
    let place = best.length;
    while (place > 0 && best[place - 1][0] > distance) place--;
    best.splice(place, 0, [distance, labels[i]]);
    if (best.length > NEIGHBOURS) best.pop();
  }
  return best.map(([, label]) => label);
}

/** Which class most of `voters` have, the first of several, and how many they are. */
function vote(voters) {
  const votes = new Map();
  for (const voter of voters) votes.set(voter, (votes.get(voter) ?? 0) + 1);
  const [[label, number]] = [...votes].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  return {label, number};
}

/** Codes between those of two epochs, `part` of the way from the first to the second. */
function codesBetween(first, second, part) {
  return first.map((value, i) => value + (second[i] - value) * part);
}

// ---- Drawings -----------------------------------------------------------------------------------

const CELLS = 100;  // of a row of the pad: what is inked, whatever the number of strokes

/** Inks the cells of the pad from `a` to `b`, [x, y] from 0 to 1; what lies beyond its edge is cut. */
function inkSegment(ink, a, b) {
  const count = Math.max(1, Math.ceil(CELLS * Math.hypot(b[0] - a[0], b[1] - a[1])));
  for (let i = 0; i <= count; i++) {
    const [column, row] = a.map((value, axis) =>
      Math.floor(CELLS * (value + (b[axis] - value) * i / count)));
    const isOnPad = column >= 0 && column < CELLS && row >= 0 && row < CELLS;
    if (isOnPad) ink.add(row * CELLS + column);
  }
}

/**
 * Inked cells -> the pixels of an image made as MNIST's were: the longer side is 20 of 28 pixels
 * long, and the centre of mass is in the middle, as far as whole pixels allow.
 */
function imageOfInk(ink, side) {
  const length = Math.round(side * 20 / 28);
  const reach = side * 2.15 / 28;  // of a pen of MNIST's width
  const points = [...ink].map(cell => [cell % CELLS, Math.floor(cell / CELLS)]);
  const [left, right, top, bottom] = boundsOf(points);
  const extent = Math.max(right - left, bottom - top, CELLS / 10);  // a dot stays a dot
  const scale = (length - 2 * reach) / extent;
  const drawn = new Float64Array(length ** 2);
  for (const [x, y] of points) {
    dab(drawn, length, (x - left) * scale + reach, (y - top) * scale + reach, reach);
  }
  const centre = centreOfMass(drawn, length);
  const room = [right - left, bottom - top].map(size =>
    Math.floor(side + 0.001 - size * scale - 2 * reach));
  const [across, down] = centre.map((middle, axis) =>
    Math.max(0, Math.min(room[axis], Math.round(side / 2 - middle))));
  const pixels = new Float64Array(side ** 2);
  drawn.forEach((value, i) => {
    const row = Math.floor(i / length) + down;
    const column = i % length + across;
    if (value > 0) pixels[row * side + column] = value;
  });
  return pixels;
}

function boundsOf(points) {
  const bounds = [Infinity, -Infinity, Infinity, -Infinity];
  for (const [x, y] of points) {
    bounds[0] = Math.min(bounds[0], x);
    bounds[1] = Math.max(bounds[1], x);
    bounds[2] = Math.min(bounds[2], y);
    bounds[3] = Math.max(bounds[3], y);
  }
  return bounds;
}

/** Inks the pixels of a square image around (x, y), with an edge that fades. */
function dab(image, side, x, y, reach) {
  const first = at => Math.max(0, Math.floor(at - reach));
  const end = at => Math.min(side, Math.ceil(at + reach));
  for (let row = first(y); row < end(y); row++) {
    for (let column = first(x); column < end(x); column++) {
      const distance = Math.sqrt((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2);
      const value = Math.min(1, (reach - distance) / (0.7 * reach));
      image[side * row + column] = Math.max(image[side * row + column], value);
    }
  }
}

function centreOfMass(image, side) {
  let mass = 0, x = 0, y = 0;
  image.forEach((value, i) => {
    mass += value;
    x += value * (i % side + 0.5);
    y += value * (Math.floor(i / side) + 0.5);
  });
  return [x / mass, y / mass];
}
