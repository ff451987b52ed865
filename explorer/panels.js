// ==== Image x ====================================================================================

const [PAPER, INK, HINT] = content.isPaper ? ["#fff", "#000", "#555"] : ["#000", "#fff", "#ccc"];
const EMPTY = new Float64Array(SIZE).fill(content.isPaper ? 1 : 0);
const shownStrokes = () => isTrained() ? state.strokes : [];

function showPad() {
  const pad = element("pad"), context = fit(pad), {clientWidth: width} = pad;
  const image = shownImage(), em = rootSize(), strokes = shownStrokes();
  context.fillStyle = PAPER;
  context.fillRect(0, 0, width, width);
  context.imageSmoothingEnabled = false;
  if (strokes.length === 0 && image) {
    const pixels = picture();
    drawPixels(pixels, image.pixels);
    context.drawImage(pixels, 0, 0, width, width);
  }
  for (const points of strokes) drawStroke(context, width, points);
  if (strokes.length > 0 || !isTrained()) return;
  context.font = `${0.8 * em}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.strokeStyle = PAPER;
  context.lineWidth = 4;
  context.strokeText("✎ draw here", width / 2, 1.2 * em);
  context.fillStyle = HINT;
  context.fillText("✎ draw here", width / 2, 1.2 * em);
}

function drawStroke(context, width, points) {
  const [x0, y0] = points[0];
  disc(context, x0 * width, y0 * width, width / 20, INK);  // a line of one point draws nothing
  context.strokeStyle = INK;
  context.lineWidth = width / 10;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x * width, y * width);
  context.stroke();
}

function showImage() {
  const image = shownImage();
  drawPixels(element("encoded"), image?.pixels ?? EMPTY);
  const className = image?.number >= 0 ? `: ${classes[labels[image.number]]}` : "";
  write("imageName", image ? capitalized(imageName(image.number)) + className
    : "Draw, or take a test image.");
  write("encoder", state.own ? "you" : "encoder");
  for (const id of ["muOf", "sigmaOf"]) write(id, state.own ? "your " : "");
  write("mu", image ? pair(image.mean) : "–");
  write("sigma", image ? pair(sigmaOf(image)) : "–");
}

// ==== The reconstruction, or what another code decodes to =========================================

/** The place, in the lists of strips, of the last epoch until then whose reconstructions are kept. */
const stripPlace = epoch => training.stripEpochs.findLastIndex(kept => kept <= epoch);

/** That epoch, at the one that is shown. */
const keptEpoch = () => training.stripEpochs[stripPlace(shownEpoch())];

function showOutput() {
  const isReconstruction = !isTrained() || isAtMean();
  element("outputTitle").replaceChildren(isReconstruction ? "Reconstruction " : "Decoded from ",
    make("i", {textContent: isReconstruction ? "x̂" : "z"}));
  drawPixels(element("decoded"), isTrained() ? decode(model, state.pinned)
    : reconstructionInStrip(replayedPlace()));
  write("code", isTrained() ? `z = ${pair(state.pinned)}`
    : `z = μ at epoch ${keptEpoch()}`);
  const votes = voteOn(shownCode());
  write("vote", voteText(votes));
  element("bar").replaceChildren(...(votes.distance > FAR ? [] : votes.classes).map(([label, number]) => {
    const part = make("span", {title: `${classes[label]}: ${number}`});
    part.style.flex = number;
    part.style.background = content.colours[label];
    return part;
  }));
  element("keep").disabled = !isTrained();
  element("back").disabled = !state.image || (isTrained() && isAtMean());
}

// ==== Its losses =================================================================================

// The loss of a pixel that is shown white, in nats: black for white, or twice that of not knowing.
const WHITE = model.crossEntropy ? 2 * Math.log(2) : 0.5;

function showLosses() {
  const {own} = state, isElsewhere = isTrained() && state.image !== null && !isAtMean();
  const losses = isTrained() ? encodersLosses() : replayedLosses();
  const weight = own ? ownWeight() : weightAtEpoch();
  element("table").classList.toggle("own", own !== null);
  element("ownHead").replaceChildren(...own ? ["encoder's"] : ["image ", make("i", {textContent: "x"})]);
  write("lossOf", isElsewhere ? "of x, not of z" : "nats");
  write("klHead", `+ ${timesText(weight)}KL`);
  fillColumn("own", losses, weight);
  fillColumn("test", isTrained() ? content.testLosses : null, content.klWeight);
  if (own) fillColumn("your", ownLosses(), weight);
  drawPixels(element("error"), losses?.pixels.map(loss => loss / WHITE) ?? new Uint8Array(SIZE));
  for (const id of ["loss", "sampling"]) element(id).classList.toggle("aside", isElsewhere);
}

/** Fills a column of the table. */
function fillColumn(column, losses, weight) {
  const texts = losses && lossTexts(losses, weight);
  write(`${column}Error`, texts?.reconstruction ?? "–");
  write(`${column}Kl`, texts?.kl ?? "–");
  write(`${column}Loss`, texts?.loss ?? "–");
}

// ==== Samples ====================================================================================

function showSamples() {
  const isEmpty = isTrained() && !state.image;
  element("sample").disabled = !isTrained() || isEmpty;
  element("sample").hidden = !isTrained();
  write("samplesTitle", isTrained() ? "Samples" : "Reconstructions");
  const text = element("samplesText");
  if (!isTrained()) text.textContent = momentsText(shownMoments());
  else if (isEmpty) text.textContent = "none without an image x";
  else if (isAtMean()) text.replaceChildren(...formulaOfSamples());
  else text.textContent = "of image x, not of z";
  drawSamplePixels();
}

/** "z = μ + σ·ε, decoded", each symbol in its colour. */
const formulaOfSamples = () => [["z", "z"], [" = "], ["μ", "mu"], [" + "], ["σ", "sigma"], ["·"],
  ["ε", "epsilon"], [", decoded"]].map(([text, className]) =>
  className ? make("b", {className, textContent: text}) : text);

/** The decoded samples or, at an earlier epoch, reconstructions of the image until then. */
const drawSamplePixels = remembered(() => {
  const shown = isTrained()
    ? samples().map(z => ({pixels: decode(model, z), name: `Decoded from ${pair(z)}`}))
    : shownMoments().map(epoch => ({pixels: reconstructionAt(epoch, replayedPlace()),
      name: `Reconstruction at epoch ${epoch}`}));
  [...element("samples").children].forEach((figure, i) => {
    const [canvas] = figure.children;
    figure.className = shown[i] ? "" : "empty";
    if (shown[i]) drawPixels(canvas, shown[i].pixels);
    canvas.setAttribute("aria-label", shown[i]?.name ?? "none");
  });
});

const momentsText = moments =>
  moments.length === 1 ? `at epoch ${moments[0]}` : `at epochs ${moments[0]} to ${moments.at(-1)}`;

/** As many epochs as there are samples, or fewer, evenly from the first until now. */
function shownMoments() {
  const {stripEpochs} = training, count = content.samples;
  const moments = Array.from({length: count}, (_, i) =>
    stripEpochs[Math.round(i / (count - 1) * (stripEpochs.length - 1))]);
  return [...new Set(moments)].filter(epoch => epoch <= shownEpoch());
}

// ==== Kept codes, and the walk between two of them ===============================================

const LETTERS = [..."ABCDEFGHIJ"];  // of as many codes as can be kept

function showKept() {
  const {kept, walk} = state, hasWalk = walk.length === 2;
  [...element("kept").children].forEach((place, i) => showPlace(place, kept[i]));
  write("keptText", state.message);
  write("walkHint", ["Keep two codes to walk between them.", "Keep one more to walk."][kept.length] ?? "");
  write("remove", `Remove ${walk.at(-1)?.letter ?? ""}`);
  element("remove").hidden = kept.length === 0;
  element("walkHint").hidden = hasWalk;
  element("play").hidden = element("walk").hidden = !hasWalk;
}

/** Shows a kept code, or nothing, in a place of the list. */
function showPlace(place, item) {
  if (!item) {
    place.replaceChildren();
    return;
  }
  if (!place.firstChild) place.append(make("button", {}, picture(), make("b")));
  const [button] = place.children, [canvas, letter] = button.children;
  drawPixels(canvas, decode(model, item.code));
  letter.textContent = item.letter;
  button.setAttribute("aria-label", `${item.letter}: z = ${pair(item.code)}`);
  button.setAttribute("aria-pressed", state.walk.includes(item));
  button.onclick = () => chooseKept(item);
}

function showWalk() {
  const {walk, percent, playing} = state;
  const route = walk.length === 2 ? ` ${walk[0].letter} → ${walk[1].letter}` : "";
  write("play", playing?.what === "walk" ? "❚❚ Pause" : `${state.isStill ? "Step" : "▶ Walk"}${route}`);
  element("walk").value = percent;
  if (!route) return;
  element("walk").setAttribute("aria-valuetext",
    `${Math.round(percent)} percent from ${walk[0].letter} to ${walk[1].letter}`);
}

// ==== The training ===============================================================================

function showTraining() {
  write("unfold", state.playing?.what === "training" ? "❚❚ Pause"
    : state.isStill ? "Next epoch" : "▶ Play training");
  element("step").hidden = state.isStill;
  for (const layer of ["images", "posterior"]) {
    element(layer).checked = shows(layer);
    element(layer).disabled = !isTrained();
  }
  element("codes").checked = shows("dots");
  element("zoom").checked = state.zoom;
  if (!training) return;
  const number = shownEpoch();
  const [title, text] = isTrained() ? ["Trained", `after ${grouped(LAST_EPOCH)} epochs`]
    : number === 0 ? ["Epoch 0", "random initial weights"] : [`Epoch ${number}`, validationText(number)];
  write("epochText", title);
  write("losses", text);
  element("epoch").value = number;
  element("epoch").setAttribute("aria-valuetext", `${title}: ${text}`);
  element("hint").hidden = isTrained();
  write("hint", isTrained() ? "" : replayText());
}

function validationText(number) {
  const {reconstruction, kl, kl_weight: weight} = training.losses[number - 1];
  return `validation loss ${sumText({reconstruction, kl}, weight)}`;
}

function replayText() {
  const count = `The first ${grouped(training.codes[0].length / 2)} test images at epoch ${
    shownEpoch()}.`;
  const number = training.images[replayedPlace()];
  if (!state.image || state.image.number === number) return count;
  return `${count} The replay shows ${imageName(number)}; ${
    imageName(state.image.number)} returns after the last epoch.`;
}

/** The validation loss of each epoch, over the slider; a dot at the epoch that is shown. */
function drawCurve() {
  const curve = element("curve"), {clientWidth: width, clientHeight: height} = curve;
  if (!training || width === 0) return;
  const context = fit(curve), em = rootSize();
  const losses = training.losses.map(({loss}) => loss), last = losses.length - 1;
  const most = Math.max(...losses), least = Math.min(...losses);
  const x = epoch => 8 + epoch / TRAINED * (width - 16);  // as the thumb of the slider
  const y = loss => 6 + (most - loss) / (most - least || 1) * (height - 12);
  const quiet = styleOf(curve, "--quiet");
  context.strokeStyle = context.fillStyle = quiet;
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.beginPath();
  losses.forEach((loss, i) => context.lineTo(x(i + 1), y(loss)));
  context.stroke();
  context.font = `${0.75 * em}px system-ui, sans-serif`;
  context.textAlign = "left";
  if (last > 0) context.fillText(losses[0].toFixed(1), x(1) + 6, y(losses[0]) + 0.4 * em);
  context.textAlign = "right";
  context.fillText(losses[last].toFixed(1), x(last + 1), Math.max(1.8 * em, y(losses[last]) - 5));
  context.fillText("validation loss", width - 4, 0.8 * em);
  const {epoch} = state, after = Math.min(LAST_EPOCH, Math.ceil(epoch));
  if (epoch < 1 || epoch > LAST_EPOCH) return;
  const [loss] = between([losses[Math.floor(epoch) - 1]], [losses[after - 1]], epoch % 1);
  disc(context, x(epoch), y(loss), 4, styleOf(curve, "--accent"));
}

/** Test images over their reconstructions at the epoch, or at the last before it that is kept. */
function showStrip() {
  if (!training) return;
  const epoch = shownEpoch(), number = shownImage()?.number;
  const when = isTrained() ? "by the trained model" : `at epoch ${keptEpoch()}`;
  element("strip").setAttribute("aria-label", `Test images over their reconstructions ${when}`);
  [...element("strip").children].forEach((place, i) => {
    const [input, canvas] = place.children;
    input.checked = training.images[i] === number;
    drawStripPlace(canvas, i, epoch);
  });
}

const drawnInStrip = new Map();  // by the place: the epoch of its images

function drawStripPlace(canvas, place, epoch) {
  if (drawnInStrip.get(place) === epoch) return;
  drawnInStrip.set(place, epoch);
  drawPixels(canvas, testImage(training.images[place]));
  drawPixels(canvas, reconstructionInStrip(place), SIDE);
}

const reconstructionInStrip = place => reconstructionAt(shownEpoch(), place);

/** The reconstruction of an image of the strip at an epoch, or at the last before it that is kept. */
function reconstructionAt(epoch, place) {
  if (epoch === TRAINED) {
    return decode(model, training.means[TRAINED].slice(2 * place, 2 * place + 2));
  }
  return pixelsOf(training.strips[stripPlace(epoch)].subarray(SIZE * place, SIZE * (place + 1)));
}

// ==== The legend =================================================================================

function showLegend() {
  const buttons = [...element("classes").children], all = buttons.pop();
  buttons.forEach((button, label) => {
    button.setAttribute("aria-pressed", state.shown[label]);
    button.disabled = shows("images");  // which have no dots to choose from
  });
  all.hidden = state.shown.every(Boolean) || shows("images");
}

/** Reads the code and its vote aloud. */
function speak() {
  if (state.spoken === 0) return;
  write("spoken", `${element("code").textContent}; ${element("vote").textContent}`);
}
