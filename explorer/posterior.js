// ==== The posterior of an image, and the best Gaussian for it: functions of numbers ==============

const GRID = 48;  // codes in a row of the grid on which the posterior is known

/** A grid of codes from -reach to reach, of which none is decoded yet to its `size` pixels. */
function newGrid(reach, size) {
  return {reach, done: 0, size, outputs: new Float32Array(GRID ** 2 * size),
    constants: new Float64Array(GRID ** 2)};
}

/** The code at a place of the grid; the first row is the lowest. */
const gridCode = ({reach}, place) =>
  [place % GRID, Math.floor(place / GRID)].map(index => (2 * index / (GRID - 1) - 1) * reach);

/**
 * Decodes the next `count` codes. An image's loss is (|x|² + |x̂|²) / 2 - x·x̂, or with cross-entropy
 * the sum of softplus(logit) less x·logit: what does not depend on x is kept.
 */
function decodeGrid(grid, model, count) {
  const end = Math.min(GRID ** 2, grid.done + count);
  for (; grid.done < end; grid.done++) {
    const raw = decodeRaw(model, gridCode(grid, grid.done));
    grid.outputs.set(raw, grid.done * grid.size);
    grid.constants[grid.done] = raw.reduce((sum, value) =>
      sum + (model.crossEntropy ? ACTIVATIONS.softplus(value) : value ** 2 / 2), 0);
  }
}

/** The reconstruction loss of an image at each code of a grid, in nats. */
function lossesOnGrid({outputs, constants, size}, model, pixels) {
  const inked = [...pixels.keys()].filter(i => pixels[i] !== 0);
  const values = inked.map(i => pixels[i]);
  const own = model.crossEntropy ? 0 : values.reduce((sum, value) => sum + value ** 2 / 2, 0);
  return constants.map((constant, place) => {
    const first = place * size;
    let product = 0;
    for (let k = 0; k < inked.length; k++) product += values[k] * outputs[first + inked[k]];
    return own + constant - product;
  });
}

/** Catmull and Rom's weights of four neighbours, `part` of the way from the second to the third. */
function splineWeights(part) {
  const square = part ** 2, cube = part ** 3;
  return [
    (-cube + 2 * square - part) / 2, (3 * cube - 5 * square + 2) / 2,
    (-3 * cube + 4 * square + part) / 2, (cube - square) / 2,
  ];
}

/** For a coordinate: the four places around it in a row of the grid, and their weights. */
function around(value, reach) {
  const place = (Math.max(-reach, Math.min(reach, value)) / reach + 1) / 2 * (GRID - 1);
  const before = Math.min(GRID - 2, Math.floor(place));
  return [[-1, 0, 1, 2].map(step => Math.max(0, Math.min(GRID - 1, before + step))),
    splineWeights(place - before)];
}

/** What a field of the grid is at any code. */
function fieldAt(field, reach, [z1, z2]) {
  const [columns, across] = around(z1, reach), [rows, up] = around(z2, reach);
  let sum = 0;
  for (let i = 0; i < 4; i++) {
    const first = rows[i] * GRID;
    for (let j = 0; j < 4; j++) sum += up[i] * across[j] * field[first + columns[j]];
  }
  return sum;
}

/** A field of the grid at size × size places; the first row is the highest. */
function enlarge(field, size) {
  const spots = Array.from({length: size}, (_, i) => around(2 * (i + 0.5) / size - 1, 1));
  const wide = new Float64Array(GRID * size), large = new Float64Array(size ** 2);
  for (let row = 0; row < GRID; row++) spots.forEach(([places, weights], i) => {
    for (let k = 0; k < 4; k++) wide[row * size + i] += weights[k] * field[row * GRID + places[k]];
  });
  spots.forEach(([places, weights], j) => {
    const first = (size - 1 - j) * size;
    for (let k = 0; k < 4; k++) {
      const row = places[k] * size;
      for (let i = 0; i < size; i++) large[first + i] += weights[k] * wide[row + i];
    }
  });
  return large;
}

/**
 * The logarithm of the density of codes that explains a loss of reconstruction + weight × KL, on the
 * grid and up to a constant: with a weight of 1, of p(z given x).
 */
const logPosterior = (grid, losses, weight) => losses.map((loss, place) => {
  const [z1, z2] = gridCode(grid, place);
  return -loss / weight - (z1 ** 2 + z2 ** 2) / 2;
});

// ---- The best Gaussian --------------------------------------------------------------------------

const LEAST_SIGMA = 0.01, GREATEST_SIGMA = 2;
const boundedLog = value =>
  Math.max(Math.log(LEAST_SIGMA), Math.min(Math.log(GREATEST_SIGMA), value));

const numbersOf = ({mean, logVariance}) => [...mean, logVariance[0] / 2, logVariance[1] / 2];
const gaussianOf = ([m1, m2, s1, s2]) =>
  ({mean: [m1, m2], logVariance: [2 * boundedLog(s1), 2 * boundedLog(s2)]});

/** Nelder and Mead's search from `start`; returns {at, value}. */
function minimise(f, start, steps, evaluations) {
  const point = at => ({at, value: f(at)});
  const corners = [start, ...steps.map((step, i) =>
    start.map((value, j) => value + (i === j ? step : 0)))].map(point);
  const mix = (a, b, part) => a.map((value, i) => value + part * (b[i] - value));
  const size = start.length;
  for (let used = size + 1; used < evaluations; used++) {
    corners.sort((a, b) => a.value - b.value);
    const worst = corners[size];
    const middle = start.map((_, i) =>
      corners.slice(0, size).reduce((sum, {at}) => sum + at[i], 0) / size);
    const mirrored = point(mix(middle, worst.at, -1));
    let next = mirrored;
    if (mirrored.value < corners[0].value) {
      const farther = point(mix(middle, worst.at, -2));
      used++;
      if (farther.value < mirrored.value) next = farther;
    } else if (mirrored.value >= corners[size - 1].value) {
      const isOutside = mirrored.value < worst.value;
      next = point(mix(middle, isOutside ? mirrored.at : worst.at, 0.5));
      used++;
      if (next.value >= Math.min(worst.value, mirrored.value)) {
        for (let i = 1; i <= size; i++) corners[i] = point(mix(corners[0].at, corners[i].at, 0.5));
        used += size;
        continue;
      }
    }
    corners[size] = next;
  }
  return corners.reduce((best, corner) => corner.value < best.value ? corner : best);
}

/** The reconstruction loss on the grid, expected for codes of a Gaussian. */
function expectedOnGrid(losses, reach, gaussian) {
  let sum = 0;
  overGaussian(gaussian, (z, weight) => { sum += weight * fieldAt(losses, reach, z); });
  return sum;
}

/**
 * The Gaussian of least reconstruction + weight × KL for an image whose losses on the grid are known,
 * with the decoder as it is. The search begins at each of `starts`, at the prior and at the best code.
 */
function bestGaussian(grid, losses, weight, starts) {
  const cost = numbers => {
    const gaussian = gaussianOf(numbers);
    return expectedOnGrid(losses, grid.reach, gaussian) + weight * klDivergence(gaussian);
  };
  const log = logPosterior(grid, losses, weight);
  const mode = log.reduce((best, value, place) => value > log[best] ? place : best, 0);
  const found = [...starts.map(numbersOf), [0, 0, 0, 0],
    [...gridCode(grid, mode), Math.log(0.15), Math.log(0.15)],
  ].map(start => minimise(cost, start, [0.15, 0.15, 0.3, 0.3], 160))
    .reduce((best, other) => other.value < best.value ? other : best);
  return gaussianOf(minimise(cost, found.at, [0.02, 0.02, 0.1, 0.1], 120).at);
}
