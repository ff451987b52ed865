// ==== The content: what explorer/content.py wrote into the page ==================================

const element = id => document.getElementById(id);
const content = JSON.parse(element("content").textContent);

/** The bytes of a text in base64; older browsers take five times as long. */
function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

const floatsOf = text => new Float32Array(bytesOf(text).buffer);

/** A step of the model with its arrays; a step without arrays is an activation. */
function stepOf(step) {
  if (step.activation) return step;
  return Object.fromEntries(Object.entries(step).map(([name, text]) => [name, floatsOf(text)]));
}

/** Pieces of an array, each of `size` numbers. */
function pieces(numbers, size) {
  return Array.from({length: numbers.length / size}, (_, i) =>
    numbers.subarray(size * i, size * (i + 1)));
}

const SIDE = content.side, SIZE = SIDE ** 2;
const {edge, classes} = content;  // a square in the plane goes from -edge to edge
const model = {
  ...Object.fromEntries(
    Object.entries(content.model).map(([part, steps]) => [part, steps.map(stepOf)])),
  crossEntropy: content.reconstructionLoss === "cross-entropy",
};
const testCodes = floatsOf(content.codes);
const labels = new Uint16Array(bytesOf(content.labels).buffer);
const pixelsOf = bytes => Float64Array.from(bytes, byte => byte / 255);
const testImages = new Map(pieces(bytesOf(content.images), SIZE).map((bytes, place) =>
  [content.imageOrder[place], pixelsOf(bytes)]));  // by their numbers, from 0
const training = content.training && readTraining(content.training);

/** What was recorded of the training, by epoch; at the end of each list stands the trained model. */
function readTraining(recorded) {
  const numbers = Float32Array.from(new Int16Array(bytesOf(recorded.codes).buffer));
  for (let i = 0; i < numbers.length; i++) numbers[i] *= recorded.step;
  const codes = pieces(numbers, 2 * recorded.images);
  const images = recorded.stripImages;
  const trained = images.map(number => encode(model, testImages.get(number)));
  const gaussians = name => pieces(floatsOf(recorded[name]), 2 * images.length);
  return {
    images,
    codes: [...codes, testCodes.subarray(0, 2 * recorded.images)],
    means: [...gaussians("stripMeans"), Float32Array.from(trained.flatMap(({mean}) => mean))],
    logVariances: [...gaussians("stripLogVariances"),
      Float32Array.from(trained.flatMap(({logVariance}) => logVariance))],
    stripEpochs: recorded.stripEpochs,
    strips: pieces(bytesOf(recorded.strips), images.length * SIZE),
    stripLosses: pieces(floatsOf(recorded.stripLosses), images.length),
    losses: recorded.validationLosses,
  };
}

const LAST_EPOCH = training ? training.losses.length : 0;
const TRAINED = LAST_EPOCH + 1;  // the epoch that stands for the trained model

/** Reads all test images, which are compressed: a browser that cannot has those of the button. */
async function readAllImages() {
  if (!window.DecompressionStream) return;
  const text = JSON.parse(element("allImages").textContent);
  const compressed = new Blob([bytesOf(text)]).stream();
  const stream = compressed.pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  pieces(bytes, SIZE).forEach((image, number) => {
    if (!testImages.has(number)) testImages.set(number, image);
  });
}

/** The pixels of a test image; most are kept as bytes until they are asked for. */
function testImage(number) {
  const image = testImages.get(number);
  if (image instanceof Uint8Array) testImages.set(number, pixelsOf(image));
  return testImages.get(number);
}

// ==== The state: all that the page shows is made of it ===========================================

const values = {
  image: null,      // x: {number (-1 for a drawing), pixels, mean, logVariance}
  strokes: [],      // of the drawing: lists of [x, y] from 0 to 1
  pen: null,        // the pointer that draws
  epsilons: [],     // of the samples
  ringed: null,     // the place of the sample that is pointed at
  flight: null,     // the motion of the samples from the prior to the Gaussian of the image
  flown: 1,         // the part of it that is done
  pinned: [0, 0],   // the code that is decoded
  hover: null,      // {x, y} of the mouse over the plane
  pressed: null,    // {limit, ...} of the press on the plane or on a handle
  layer: "dots",    // or "images" or "posterior"
  zoom: false,
  shown: classes.map(() => true),
  own: null,        // {mean, logVariance}: one's own Gaussian while one is the encoder
  beta: 1,          // weighs the KL divergence of this Gaussian
  isBest: false,    // whether it follows beta, images and drawings
  epoch: TRAINED,   // between two epochs while the training plays
  kept: [],         // {letter, code}, by letter
  walk: [],         // of them: where the walk starts and ends
  percent: 0,       // of the walk
  playing: null,    // {what}: "training", "walk" or "glide"
  message: "",      // of the kept codes
  tasks: [],        // {title, text, start}: what can be tried
  task: null,       // the place of the task that is tried
  spoken: 0,        // counts what is to be read aloud
  screen: 0,        // counts changes of size, resolution and colours
  isStill: false,   // whether motion is reduced
  isTouch: false,   // whether fingers are the first means to point
  gridDone: false,  // whether all codes of the grid are decoded
  tiles: 0,         // counts slices of decoded images
  limit: 1,         // of the axes, as placeAxes finds it
  betas: [1, 1],    // the least and the greatest β since the task began
};

let reading = null;  // the names and values that the running function has read of the state

const state = new Proxy(values, {
  get(_, name) {
    reading?.set(name, values[name]);
    return values[name];
  },
});

/**
 * Returns a function that calls `compute` again only where something of the state that it read has
 * changed; else it returns the last result. So nobody lists what depends on what.
 */
function remembered(compute) {
  let read = null, result;
  return () => {
    const isSame = read && [...read].every(([name, value]) => values[name] === value);
    if (!isSame) {
      const outer = reading;
      reading = read = new Map();
      try {
        result = compute();
      } finally {
        reading = outer;
      }
    }
    for (const [name, value] of read) reading?.set(name, value);  // so a caller depends on it too
    return result;
  };
}

let isAsked = false;

/** Changes the state; the page shows it at the next frame. Epochs are whole unless they play. */
function set(change) {
  Object.assign(values, change);
  if (values.playing?.what !== "training") values.epoch = Math.round(values.epoch);
  if (!isAsked) requestAnimationFrame(render);
  isAsked = true;
}

function render() {
  isAsked = false;
  for (const show of PARTS) show();
}

// ---- What follows from it -----------------------------------------------------------------------

const isTrained = () => state.epoch === TRAINED;
/** The whole epoch that texts and images are of. */
const shownEpoch = () => isTrained() ? TRAINED : Math.min(LAST_EPOCH, Math.round(state.epoch));
const shows = layer => isTrained() ? state.layer === layer : layer === "dots";
const isSame = (a, b) => a[0] === b[0] && a[1] === b[1];

/** The Gaussian in use: one's own, or the encoder's. */
const gaussianInUse = () => state.own ?? state.image;
const isAtMean = () => state.image !== null && isSame(state.pinned, gaussianInUse().mean);
const samples = () => state.image ? state.epsilons.map(e => sampleLatent(gaussianInUse(), e)) : [];

/** What a list by epoch holds at `state.epoch`, or between two. */
function atEpoch(list) {
  const before = Math.floor(state.epoch);
  if (before === state.epoch) return list[before];
  return between(list[before], list[before + 1], state.epoch - before);
}

/** The place in the strip of the image whose training is shown: image x, or else the first. */
const replayedPlace = () => Math.max(0, training.images.indexOf(state.image?.number));

/** What is shown of the image: x with the trained model, or an image of the strip before. */
function shownImage() {
  if (isTrained()) return state.own ? {...state.image, ...state.own} : state.image;
  const place = replayedPlace(), number = training.images[place];
  const [mean, logVariance] = [training.means, training.logVariances].map(list =>
    [...atEpoch(list).slice(2 * place, 2 * place + 2)]);
  return {number, pixels: testImage(number), mean, logVariance};
}

/** The code that the blue dot marks. */
const shownCode = () => isTrained() ? state.pinned : shownImage().mean;

/** The places of the test codes that vote on a code, nearest first, with their distances. */
function votersOf(z) {
  if (!isTrained()) {
    return nearestCodes(z, atEpoch(training.codes), content.neighbours, shownImage().number);
  }
  const isOfImage = state.image && isSame(z, state.image.mean);
  return nearestCodes(z, testCodes, content.neighbours, isOfImage ? state.image.number : -1);
}

const FAR = 0.15;  // from the nearest code: there a vote would say nothing

/** {classes: pairs of a class and its number of votes, count, distance: to the nearest code}. */
function voteOn(z) {
  const voters = votersOf(z);
  return {
    classes: countVotes(voters.map(([, place]) => labels[place])),
    count: voters.length,
    distance: voters[0]?.[0] ?? Infinity,
  };
}

/** {reconstruction, kl}, in nats, and {pixels}: the losses of a Gaussian for an image. */
function lossesOf(gaussian, image) {
  const ofPixels = expectedLosses(model, gaussian, image.pixels);
  return {pixels: ofPixels, reconstruction: sumOf(ofPixels), kl: klDivergence(gaussian)};
}

const sumOf = numbers => numbers.reduce((sum, value) => sum + value, 0);

const encodersLosses = remembered(() => state.image && lossesOf(state.image, state.image));
const ownLosses = remembered(() => state.own && lossesOf(state.own, state.image));

/** The losses of the replayed image at the epoch: its pixels' are those of the code μ. */
function replayedLosses() {
  const place = replayedPlace(), epoch = shownEpoch(), {pixels} = shownImage();
  const gaussian = name => training[name][epoch].slice(2 * place, 2 * place + 2);
  const logit = value => {
    const inside = clip(value, 1 / 510, 1 - 1 / 510);  // half a grey level
    return Math.log(inside / (1 - inside));
  };
  const shown = reconstructionInStrip(place), raw = model.crossEntropy ? shown.map(logit) : shown;
  return {
    pixels: pixelLosses(model, raw, pixels),
    reconstruction: training.stripLosses[epoch][place],
    kl: klDivergence({mean: [...gaussian("means")], logVariance: [...gaussian("logVariances")]}),
  };
}

/** The weight of the KL divergence at the epoch that is shown. */
function weightAtEpoch() {
  if (isTrained()) return content.klWeight;
  return training.losses[Math.max(0, shownEpoch() - 1)].kl_weight;
}

// ---- Be the encoder: the posterior, and the best Gaussian -----------------------------------------

/** The weight of the KL divergence in one's own loss. */
const ownWeight = () => state.beta * content.klWeight;
const lossWith = (weight, {reconstruction, kl}) => reconstruction + weight * kl;

const LEAST_LIMIT = 2.8;  // of the axes: of the prior, this holds 99.5 of 100 coordinates
const grid = newGrid(1.08 * Math.max(LEAST_LIMIT, quantileOf(testCodes)), SIZE);

/** The reconstruction losses of image x at all codes of the grid, which is decoded to its end. */
const lossesOfImageOnGrid = remembered(() => {
  decodeGrid(grid, model, Infinity);
  return state.image ? lossesOnGrid(grid, model, state.image.pixels) : new Float64Array(GRID ** 2);
});

/** The logarithm of p(z given x) on the grid, or with a β other than 1 of what Best aims at. */
const logDensity = remembered(() =>
  logPosterior(grid, lossesOfImageOnGrid(), state.own ? ownWeight() : content.klWeight));

let lastBest = null;  // where the next search begins

/** The best Gaussian for image x at this β, with the decoder as it is. */
const bestOwn = remembered(() => {
  const {image} = state;
  const starts = lastBest ? [image, lastBest] : [image];
  lastBest = bestGaussian(grid, lossesOfImageOnGrid(), ownWeight(), starts);
  return lastBest;
});
const bestLosses = remembered(() => lossesOf(bestOwn(), state.image));

/** 99.5 of 100 codes lie in the square from minus this to this. */
function quantileOf(codes) {
  const sizes = Float32Array.from({length: codes.length / 2}, (_, i) =>
    Math.max(Math.abs(codes[2 * i]), Math.abs(codes[2 * i + 1]))).sort();
  return sizes[Math.floor(0.995 * (sizes.length - 1))];
}

const imageOf = (pixels, number) => ({number, pixels, ...encode(model, pixels)});
