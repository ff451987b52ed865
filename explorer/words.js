// ==== Numbers and texts ==========================================================================

/** A number with `digits` after the point, a true minus sign, and no "−0.00". */
function signed(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
}

const pair = numbers => `(${numbers.map(value => signed(value, 2)).join(", ")})`;
const grouped = number => number.toLocaleString("en");
const imageName = number => number < 0 ? "your drawing" : `test image ${grouped(number + 1)}`;
const capitalized = text => text[0].toUpperCase() + text.slice(1);
const shortened = text => text.length > 12 ? `${text.slice(0, 11)}…` : text;
const article = text => /^(8|11|18|[aeiou])/i.test(text) ? "an" : "a";

/** "12 of the 25 nearest test images are 4" or, where none is near, how far the nearest is. */
function voteText({classes: votes, count, distance}) {
  if (count === 0) return "There is no other test image.";
  if (distance > FAR) return `No test image is near: the nearest code is ${distance.toFixed(2)} away.`;
  const [[label, number]] = votes;
  return `${number} of the ${count} nearest test images ${number === 1 ? "is" : "are"}\u00a0${
    classes[label]}`;
}

const tenths = value => Math.round(10 * value);
const weightText = weight => `${Number(weight.toPrecision(4))}`;

/**
 * Texts of the terms of a loss of which the written sum is right: the loss and the weighted KL
 * divergence are rounded, and the reconstruction is what remains. The KL divergence has as many
 * digits as it takes for its written product with the weight to be the weighted one.
 */
function lossTexts(losses, weight) {
  const {kl} = losses, written = Number(weightText(weight));
  const loss = tenths(lossWith(weight, losses)), term = tenths(weight * kl);
  const digits = [1, 2, 3, 4].find(count => tenths(written * Number(kl.toFixed(count))) === term) ?? 5;
  return {
    loss: (loss / 10).toFixed(1),
    reconstruction: ((loss - term) / 10).toFixed(1),
    kl: kl.toFixed(digits),
  };
}

const timesText = weight => weight === 1 ? "" : `${weightText(weight)} × `;

/** "20.6 = reconstruction 16.9 + KL 3.7" */
function sumText(losses, weight) {
  const {loss, reconstruction, kl} = lossTexts(losses, weight);
  return `${loss} = reconstruction ${reconstruction} + ${timesText(weight)}KL\u00a0${kl}`;
}
