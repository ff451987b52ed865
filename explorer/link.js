// ==== The address: what is shown, so that a link can point to it ====================================

const LAYERS = ["dots", "images", "posterior"];
const numbersText = numbers => numbers.map(value => Number(value.toPrecision(4))).join(",");

/** The part of the address after "#". A drawing is not in it. */
function addressOf() {
  const {image, own, pinned} = state;
  const parts = {z: numbersText(pinned)};
  if (image?.number >= 0) parts.image = image.number + 1;
  if (!isTrained()) parts.epoch = shownEpoch();
  if (state.layer !== "dots") parts.layer = state.layer;
  if (own) {
    parts.own = state.isBest ? "best" : numbersText([...own.mean, ...sigmaOf(own)]);
    parts.beta = numbersText([state.beta]);
  }
  return new URLSearchParams(parts).toString().replaceAll("%2C", ",");
}

const PAUSE = 400;  // milliseconds without a change, after which the address follows
let addressTimer = 0, lastAddress = null;

/** Writes what is shown into the address once nothing moves; that of a page just opened stays. */
function showAddress() {
  const address = addressOf();
  const isFirst = lastAddress === null;
  if (address === lastAddress) return;
  lastAddress = address;
  clearTimeout(addressTimer);
  if (!isFirst) addressTimer = setTimeout(() => history.replaceState(null, "", `#${address}`), PAUSE);
}

/** Numbers of a text such as "1.2,-0.3", or null where it is none of so many. */
function numbersIn(text, count) {
  const numbers = (text ?? "").split(",").map(part => part.trim() === "" ? NaN : Number(part));
  return numbers.length === count && numbers.every(Number.isFinite) ? numbers : null;
}

/** Shows what the address says; what it says of nothing that there is, is left out. */
function followAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const number = Number(parts.get("image")) - 1;
  const z = numbersIn(parts.get("z"), 2), own = numbersIn(parts.get("own"), 4);
  const epoch = numbersIn(parts.get("epoch"), 1)?.[0];
  const beta = numbersIn(parts.get("beta"), 1)?.[0] ?? 1;
  if (testImages.has(number)) takeImage(number);
  if (LAYERS.includes(parts.get("layer"))) set({layer: parts.get("layer")});
  if (z) pin(z.map(value => clip(value, -MOST, MOST)));
  if (state.image && (own || parts.get("own") === "best")) {
    set({beta: clip(beta, LEAST_BETA, MOST_BETA)});
    if (own) moveOwn({mean: own.slice(0, 2), logVariance: own.slice(2).map(logVarianceOf)});
    else moveOwn(bestOwn(), {isBest: true});
  }
  if (Number.isInteger(epoch) && epoch >= 0 && epoch <= LAST_EPOCH) goToEpoch(epoch);
}
