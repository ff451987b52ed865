// ==== Be the encoder: the controls, the two losses as bars, and what is said of them ===============

function showOwn() {
  const {own, image} = state, isOwn = own !== null;
  element("beEncoder").disabled = !image;
  element("beEncoder").setAttribute("aria-pressed", isOwn);
  element("under").classList.toggle("own", isOwn);
  plane.classList.toggle("own", isOwn);
  element("own").hidden = element("sums").hidden = !isOwn;
  element("error").hidden = isOwn;
  element("trade").hidden = !isOwn;
  write("errorCaption", isOwn ? "losses" : "pixel loss");
  write("verdict", isOwn ? verdict() : shows("posterior") ? `${legendOfHeat()}.` : "");
  if (!isOwn) return;
  write("sums", `Your loss ${sumText(ownLosses(), ownWeight())}`);
  element("beta").value = placeOfBeta(state.beta);
  element("beta").setAttribute("aria-valuetext", weightText(state.beta));
  write("betaText", weightText(state.beta));
  element("best").setAttribute("aria-pressed", state.isBest);
  element("yourLoss").className = state.beta === 1 && tenthsWon() > 0 ? "won" : "";
  drawTrade([encodersLosses(), ownLosses()]);
}

/** Draws the two losses as bars: the reconstruction, and above it the weighted KL divergence. */
function drawTrade(both) {
  const canvas = element("trade"), {clientWidth: width, clientHeight: height} = canvas;
  if (width === 0) return;
  const weight = ownWeight(), totals = both.map(losses => lossWith(weight, losses));
  const context = fit(canvas), most = Math.max(...totals);
  both.forEach(({reconstruction}, i) => {
    const [x, wide] = [width * (0.08 + 0.46 * i), width * 0.38];
    const [low, high] = [reconstruction, totals[i]].map(value => height * value / most);
    context.fillStyle = styleOf(canvas, "--reconstruction");
    context.fillRect(x, height - low, wide, low);
    context.fillStyle = styleOf(canvas, "--kl");
    context.fillRect(x, height - high, wide, high - low);
  });
  canvas.setAttribute("aria-label", `The encoder's loss and yours, as bars: ${
    totals.map(total => total.toFixed(1)).join(" and ")}`);
}

// The slider goes from -1 to 1: its left half from 0.01 to 1, its right half from 1 to 10.
const placeOfBeta = beta => Math.log10(beta) / (beta < 1 ? 2 : 1);
const betaAt = place => Number((10 ** (place < 0 ? 2 * place : place)).toPrecision(3));

/** The loss in tenths of a nat, as it is written. */
const writtenLoss = losses => tenths(lossWith(ownWeight(), losses));
/** By how many tenths of a nat one's own loss is below the encoder's. */
const tenthsWon = () => writtenLoss(encodersLosses()) - writtenLoss(ownLosses());
const nats = count => `${(Math.abs(count) / 10).toFixed(1)} nats`;

const isEncoders = () => isSame(state.own.mean, state.image.mean)
  && isSame(state.own.logVariance, state.image.logVariance);

/** What one's own Gaussian is worth, in a line. */
function verdict() {
  const {beta, isBest} = state, {kl} = ownLosses(), won = tenthsWon();
  if (state.playing?.what === "glide") return "";
  if (isBest) return verdictOnBest(kl, won);
  if (isEncoders()) return "The encoder's. Drag it, or a handle: find a smaller loss.";
  if (won > 0 && beta !== 1) return `${nats(won)} below the encoder's loss; it learned with β = 1.`;
  if (won < 0) return `The encoder's loss is ${nats(won)} smaller.`;
  if (won === 0) return "As good as the encoder.";
  const left = writtenLoss(ownLosses()) - writtenLoss(bestLosses());
  return `You beat the encoder by ${nats(won)}${
    left > 0 ? `; ${nats(left)} more can be won.` : ": that is the best."}`;
}

const IS_PRIOR = 0.01, NEAR_PRIOR = 0.2;  // KL divergences, in nats

function verdictOnBest(kl, won) {
  if (kl < IS_PRIOR) return "Best is the prior: z carries nothing about x.";
  if (kl < NEAR_PRIOR) {
    return `Best is close to the prior (KL ${kl.toFixed(2)}): z carries little about x.`;
  }
  if (state.beta < 1 && Math.max(...sigmaOf(state.own)) < 0.08) {
    return "Best is almost a point: only the reconstruction loss counts.";
  }
  if (state.beta < 0.5) return "Best is smaller: KL weighs less, and the reconstruction is more precise.";
  if (state.beta > 2) return "Best is wider and nearer to the prior: KL weighs more.";
  return won > 0 ? `Best: ${nats(won)} below the encoder's loss.` : "Best: the encoder is as good.";
}

const legendOfHeat = () => state.image
  ? "Orange: how probable each code is, given image x; the lines hold 39 and 86 % of it"
  : "Orange: how probable each code is under the prior; the lines hold 39 and 86 % of it";

/** By how many tenths of a nat the best loss is below the encoder's. */
const gapInTenths = () => writtenLoss(encodersLosses()) - writtenLoss(bestLosses());

/** Why the numbers are as they are: a sentence or two. */
function explanation() {
  const ofThisImage = "β weighs KL for this image only: encoder and decoder stay as trained (β = 1).";
  if (!state.isBest) {
    return `${ofThisImage} The smaller your loss at this β, the better is your Gaussian for this image.`;
  }
  if (bestLosses().kl < NEAR_PRIOR) {
    return `${ofThisImage} Where z carries so little about every image of a trained model, this is called `
      + "posterior collapse.";
  }
  if (state.beta !== 1) {
    return `${ofThisImage} At this β the best Gaussian is another one${
      shows("posterior") ? ", and orange is what it approximates" : ""}.`;
  }
  return "Best is fitted to this image alone; the encoder is one network for all images and loses "
    + `${nats(gapInTenths())} here: the amortization gap. What is left between Best and p(z | x), the `
    + "layer “posterior”, is because Best is a Gaussian along the axes.";
}
