// ==== Image x ====================================================================================

function drawPad() {
  const pad = element("pad"), context = fit(pad), {clientWidth: width} = pad;
  const image = shownImage(), em = rootSize();
  const isDrawing = isTrained() && state.strokes.length > 0;
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, width);
  context.imageSmoothingEnabled = false;
  if (isDrawing) for (const points of state.strokes) drawStroke(context, width, points);
  else if (image) context.drawImage(picture(image.pixels), 0, 0, width, width);
  if (isDrawing || !isTrained()) return;
  context.font = `${0.8 * em}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.strokeStyle = "#000";
  context.lineWidth = 4;
  context.strokeText("✎ draw here", width / 2, 1.2 * em);
  context.fillStyle = "#ccc";
  context.fillText("✎ draw here", width / 2, 1.2 * em);
}

function drawStroke(context, width, points) {
  const [x0, y0] = points[0];
  disc(context, x0 * width, y0 * width, width / 20, "#fff");  // a line of one point draws nothing
  context.strokeStyle = "#fff";
  context.lineWidth = width / 10;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x * width, y * width);
  context.stroke();
}

function showImage() {
  const image = shownImage();
  drawPixels(element("encoded"), image?.pixels ?? new Uint8Array(SIZE));
  const className = image?.number >= 0 ? `: ${classes[labels[image.number]]}` : "";
  element("imageName").textContent =
    image ? capitalized(imageName(image.number)) + className : "Draw, or take a test image.";
  element("mu").textContent = image ? pair(image.mean) : "–";
  element("sigma").textContent = image ? pair(sigmaOf(image)) : "–";
}

// ==== The reconstruction, or what another code decodes to =========================================

/** The place, in the lists of strips, of the last epoch whose reconstructions are kept. */
const stripPlace = () =>
  training.stripEpochs.findLastIndex(epoch => epoch <= Math.round(state.epoch));

function showOutput() {
  const title = element("outputTitle"), isReconstruction = !isTrained() || isAtMean();
  const symbol = document.createElement("i");
  symbol.textContent = isReconstruction ? "x̂" : "z";
  title.replaceChildren(isReconstruction ? "Reconstruction " : "Decoded from ", symbol);
  if (isTrained()) showDecoded();
  else showReplayed();
  element("keep").disabled = !isTrained();
  element("back").disabled = !state.image || (isTrained() && isAtMean());
}

function showDecoded() {
  const {pinned, image} = state;
  const voters = nearest(pinned, isAtMean() ? image.number : -1);
  drawPixels(element("decoded"), decode(model, pinned));
  element("code").textContent = `z = ${pair(pinned)}`;
  element("vote").textContent = voteText(voters);
  element("bar").replaceChildren(...countVotes(voters).map(([label, number]) => {
    const part = document.createElement("span");
    part.style.flex = number;
    part.style.background = content.colours[label];
    part.title = `${classes[label]}: ${number}`;
    return part;
  }));
}

function showReplayed() {
  drawPixels(element("decoded"), reconstructionInStrip(replayedPlace()));
  element("code").textContent = `z = μ at epoch ${training.stripEpochs[stripPlace()]}`;
  element("vote").textContent = "";
  element("bar").replaceChildren();
}

// ==== Its losses =================================================================================

// The loss of a pixel that is shown white, in nats: black for white, or twice that of not knowing.
const WHITE = model.crossEntropy ? 2 * Math.log(2) : 0.5;

function showLosses() {
  const losses = isTrained() ? state.image?.losses : null;
  const isElsewhere = isTrained() && state.image !== null && !isAtMean();
  fillColumn("own", losses);
  drawPixels(element("error"), losses?.pixels.map(loss => loss / WHITE) ?? new Uint8Array(SIZE));
  element("lossOf").textContent = !isTrained() ? "not recorded"
    : isElsewhere ? "of x, not of z" : "nats";
  for (const id of ["loss", "drawn"]) element(id).classList.toggle("aside", isElsewhere);
}

/** Fills a column of the table. */
function fillColumn(column, losses) {
  const texts = losses && lossTexts(losses, content.klWeight);
  const product = texts?.product ? `${texts.product} = ` : "";
  element(`${column}Error`).textContent = texts?.reconstruction ?? "–";
  element(`${column}Kl`).textContent = texts ? product + texts.term : "–";
  element(`${column}Loss`).textContent = texts?.loss ?? "–";
}

function showSamples() {
  const codes = isTrained() ? samples() : [];
  element("sample").disabled = codes.length === 0;
  element("samplesText").textContent = !isTrained() ? "not recorded for earlier epochs"
    : isAtMean() || !state.image ? "z = μ + σ·ε, decoded" : "of image x, not of z";
  element("samples").replaceChildren(...Array.from({length: content.samples}, (_, i) =>
    codes[i] ? sampleFigure(codes[i]) : emptyFigure()));
}

function sampleFigure(z) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const canvas = picture(decode(model, z));
  const [[label]] = countVotes(nearest(z));
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Decoded from ${pair(z)}, where class ${classes[label]} is near`);
  caption.textContent = classes[label];
  figure.append(canvas, caption);
  return figure;
}

function emptyFigure() {
  const figure = document.createElement("figure");
  figure.append(document.createElement("i"), document.createElement("figcaption"));
  return figure;
}

// ==== Kept codes, and the walk between two of them ===============================================

const LETTERS = [..."ABCDEFGHIJ"];  // of as many codes as can be kept

function showKept() {
  const {kept, walk} = state;
  const hint = ["keep two to walk between them", "keep one more to walk"][kept.length];
  [...element("kept").children].forEach((place, i) => showPlace(place, kept[i]));
  element("keptText").textContent = [state.message, hint].filter(Boolean).join("; ");
  element("remove").textContent = `Remove ${walk.at(-1)?.letter ?? ""}`;
  element("remove").hidden = kept.length === 0;
  element("play").disabled = element("walk").disabled = walk.length < 2;
}

/** Shows a kept code, or nothing, in a place of the list. */
function showPlace(place, item) {
  if (!item) {
    place.replaceChildren();
    return;
  }
  if (!place.firstChild) place.append(keptButton());
  const [button] = place.children, [canvas, letter] = button.children;
  drawPixels(canvas, decode(model, item.code));
  letter.textContent = item.letter;
  button.setAttribute("aria-label", `${item.letter}: z = ${pair(item.code)}`);
  button.setAttribute("aria-pressed", state.walk.includes(item));
  button.onclick = () => chooseKept(item);
}

function keptButton() {
  const button = document.createElement("button");
  button.append(picture(new Uint8Array(SIZE)), document.createElement("b"));
  return button;
}

function showWalk() {
  const {walk, percent, playing} = state;
  const route = walk.length === 2 ? ` ${walk[0].letter} → ${walk[1].letter}` : "";
  element("play").textContent =
    playing?.what === "walk" ? "❚❚ Pause" : `${still.matches ? "Step" : "▶ Walk"}${route}`;
  element("walk").value = percent;
  element("walk").setAttribute("aria-valuetext", route
    ? `${Math.round(percent)} percent from ${walk[0].letter} to ${walk[1].letter}` : "no walk yet");
}

// ==== The training ===============================================================================

function showTraining() {
  element("unfold").textContent = state.playing?.what === "training" ? "❚❚ Pause"
    : still.matches ? "Next epoch" : "▶ Play training";
  if (!training) return;
  const number = Math.round(state.epoch);
  const [title, text] = isTrained() ? ["Trained", testText()]
    : number === 0 ? ["Epoch 0", "random initial weights"]
      
      : number === TRAINED ? ["Trained", ""] : [`Epoch ${number}`, validationText(number)];
  element("epochText").textContent = title;
  element("losses").textContent = text;
  element("epoch").value = number;
  element("epoch").setAttribute("aria-valuetext", `${title}: ${text}`);
  element("hint").hidden = isTrained();
  element("hint").textContent = isTrained() ? "" : replayText();
  element("codes").checked = !showsImages();
  element("images").checked = showsImages();
  element("images").disabled = !isTrained();
}

const validationText = number => {
  const {reconstruction, kl, kl_weight: weight} = training.losses[number - 1];
  return `validation ${sumText({reconstruction, kl}, weight)}`;
};
const testText = () => `test ${sumText(content.testLosses, content.klWeight)}`;

/** "loss 20.6 = reconstruction 16.9 + KL 3.7" */
function sumText(losses, weight) {
  const {loss, reconstruction, term, product} = lossTexts(losses, weight);
  return `loss ${loss} = reconstruction ${reconstruction} + KL ${term}`
    + (product ? ` (${product})` : "");
}

function replayText() {
  const count = `The first ${grouped(training.codes[0].length / 2)} test images at epoch ${
    Math.round(state.epoch)}.`;
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
  const losses = training.losses.map(({loss}) => loss);
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
  context.textAlign = "right";
  context.fillText("validation loss", width - 4, 0.8 * em);
  const {epoch} = state, after = Math.min(LAST_EPOCH, Math.ceil(epoch));
  if (epoch < 1 || epoch > LAST_EPOCH) return;
  const [loss] = between([losses[Math.floor(epoch) - 1]], [losses[after - 1]], epoch % 1);
  disc(context, x(epoch), y(loss), 4, styleOf(curve, "--accent"));
}

/** Test images over their reconstructions at the epoch, or at the last before it that is kept. */
function showStrip() {
  if (!training) return;
  const strip = element("strip"), {images} = training;
  strip.width = images.length * SIDE;
  strip.height = 2 * SIDE;
  const context = strip.getContext("2d", {willReadFrequently: true});
  images.forEach((number, place) => {
    context.drawImage(picture(exampleImages[number]), place * SIDE, 0);
    context.drawImage(picture(reconstructionInStrip(place)), place * SIDE, SIDE);
  });
  const when = Math.round(state.epoch) === TRAINED ? "by the trained model"
    : `at epoch ${training.stripEpochs[stripPlace()]}`;
  strip.setAttribute("aria-label", `Test images over their reconstructions ${when}`);
}

function reconstructionInStrip(place) {
  if (Math.round(state.epoch) === TRAINED) {
    return decode(model, training.means[TRAINED].slice(2 * place, 2 * place + 2));
  }
  const strip = training.strips[stripPlace()];
  return Float64Array.from(strip.subarray(SIZE * place, SIZE * (place + 1)), byte => byte / 255);
}

// ==== The legend =================================================================================

function showLegend() {
  const buttons = [...element("classes").children], all = buttons.pop();
  buttons.forEach((button, label) => {
    button.setAttribute("aria-pressed", state.shown[label]);
  });
  all.hidden = state.shown.every(Boolean);
}

/** Reads the code and its vote aloud. */
function speak() {
  if (state.spoken === 0) return;
  element("spoken").textContent = `${element("code").textContent}; ${element("vote").textContent}`;
}

// ==== The parts: what each depends on, and what shows it ==========================================

const onPlane = s => [s.layer, s.zoom, s.shown, s.epoch, s.screen];
const PARTS = [
  {of: s => [...onPlane(s), s.pressed?.limit ?? limitOfAxes()], show: drawBase},
  {
    of: s => [...onPlane(s), s.pressed?.limit ?? limitOfAxes(), s.image, s.epsilons, s.pinned,
      s.kept, s.walk],
    show: drawMarks,
  },
  {of: s => [s.hover, isTrained()], show: showPreview},
  {of: s => [s.shown], show: showLegend},
  {of: s => [s.image, s.strokes, s.epoch, s.screen], show: drawPad},
  {of: s => [s.image, s.epoch], show: showImage},
  {of: s => [s.image, s.pinned, s.epoch], show: showOutput},
  {of: s => [s.image, s.pinned, isTrained()], show: showLosses},
  {of: s => [s.image, s.epsilons, isAtMean(), isTrained()], show: showSamples},
  {of: s => [s.kept, s.walk, s.message], show: showKept},
  {of: s => [s.walk, s.percent, s.playing], show: showWalk},
  {of: s => [s.epoch, s.playing, s.layer, s.image], show: showTraining},
  {of: s => [s.epoch, s.screen], show: drawCurve},
  {of: s => [Math.round(s.epoch)], show: showStrip},
  {of: s => [s.spoken], show: speak},
];
