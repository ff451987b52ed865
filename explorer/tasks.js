// ==== Try this: tasks, each of which sets the state and says what to do ==========================

/** The test image whose Gaussian by the encoder is farthest from the best one. */
function beatableImage() {
  decodeGrid(grid, model, Infinity);
  const gaps = content.imageOrder.map(number => {
    const losses = lossesOnGrid(grid, model, testImage(number));
    const best = bestGaussian(grid, losses, content.klWeight, []);
    const loss = gaussian =>
      expectedOnGrid(losses, grid.reach, gaussian) + content.klWeight * klDivergence(gaussian);
    return {number, gap: loss(encode(model, testImage(number))) - loss(best)};
  });
  return gaps.reduce((most, other) => other.gap > most.gap ? other : most).number;
}

/** The code of a test image. */
const testCode = number => [testCodes[2 * number], testCodes[2 * number + 1]];

/** The classes of the codes nearest to that of a test image. */
const neighboursOf = number =>
  nearestCodes(testCode(number), testCodes, content.neighbours, number)
    .map(([, place]) => labels[place]);

/** {number, from, to}: the first test image whose code lies among another class, or null. */
function mistakenImage() {
  for (const number of content.imageOrder) {
    const [[to, count] = []] = countVotes(neighboursOf(number));
    const isAmong = count > content.neighbours / 2;
    if (isAmong && to !== labels[number]) return {number, from: labels[number], to};
  }
  return null;
}

/** The code in the square that is farthest from all dots. */
function emptiestCode() {
  let most = 0, emptiest = [0, 0];
  for (let place = 0; place < GRID ** 2; place++) {
    const code = gridCode({reach: edge}, place);
    let least = Infinity;
    for (let i = 0; i < labels.length && least > most; i++) {
      least = Math.min(least, (testCodes[2 * i] - code[0]) ** 2 + (testCodes[2 * i + 1] - code[1]) ** 2);
    }
    if (least > most) [most, emptiest] = [least, code];
  }
  return emptiest;
}

const ASKED = 200;  // test codes of which the neighbours are looked at

/** The two classes whose codes are most often neighbours of each other, or null. */
function mixedClasses() {
  const counts = new Map();
  const step = Math.ceil(labels.length / ASKED);
  for (let i = 0; i < labels.length; i += step) {
    for (const other of neighboursOf(i)) {
      if (other === labels[i]) continue;
      const classPair = [labels[i], other].sort((a, b) => a - b).join();
      counts.set(classPair, (counts.get(classPair) ?? 0) + 1);
    }
  }
  const [[most] = []] = [...counts].sort((a, b) => b[1] - a[1]);
  return most ? most.split(",").map(Number) : null;
}

const COMPARED = 1000;  // test images with which a decoded one is compared

/** How many of the test images most like these pixels are of a class. */
function likeness(pixels, label) {
  const numbers = [...testImages.keys()].filter(number => number < COMPARED);
  const distances = numbers.map(number => {
    const image = testImage(number);
    let sum = 0;
    for (let i = 0; i < SIZE; i++) sum += (image[i] - pixels[i]) ** 2;
    return [sum, labels[number]];
  });
  const nearest = distances.sort((a, b) => a[0] - b[0]).slice(0, content.neighbours);
  return nearest.filter(([, other]) => other === label).length;
}

/** A test image's code that decodes to a plain image of its class, of 60 that lie deepest among it. */
function plainCode(label) {
  const members = membersOf[label];
  const some = members.filter((_, i) => i % Math.ceil(members.length / 200) === 0);
  const votes = some.map(i =>
    ({code: testCode(i), count: neighboursOf(i).filter(other => other === label).length}))
    .sort((a, b) => b.count - a.count).slice(0, 60);
  const scores = votes.map(({code}) => ({code, score: likeness(decode(model, code), label)}));
  return scores.reduce((most, other) => other.score > most.score ? other : most).code;
}

const nameOf = label => shortened(classes[label]);
const amongst = label => `among the images of ${nameOf(label)}`;

/** What the best Gaussian for the mistaken image shows. */
function answerOnMistaken(mistaken) {
  const {classes: [[label, number]], count} = voteOn(bestOwn().mean);
  const votes = `${number} of the ${count} nearest images are ${nameOf(label)}`;
  const where = label === mistaken.from ? `and there ${votes}: the encoder missed it.`
    : `but there ${votes}: the encoder misses, and two dimensions are too few as well.`;
  return `Best is ${nats(gapInTenths())} better than the encoder, ${where}`;
}

/**
 * Lists the tasks for this page. `start` changes a clean state; `text` says what to do, or
 * the answer; `focus` is the control to use.
 */
function findTasks() {
  const mistaken = mistakenImage(), mixed = mixedClasses();
  return [
    {
      title: "Beat the encoder",
      text: () => state.isBest ? explanation()
        : "The ellipse is the encoder's guess at the codes that image x may come from. Drag it and "
          + "its two handles: can you get a smaller loss? Best shows the answer.",
      start: () => takeImage(beatableImage(), {own: "encoder"}),
      focus: "plane",
    },
    {
      title: "What does β do?",
      text: () => state.betas[0] > 0.2 || state.betas[1] < 3
        ? "Drag β left, then right: what happens to σ, to KL, and to the samples?"
        : "Left, KL weighs less: σ shrinks, KL grows, and all samples are alike. Right, KL weighs "
          + "more: σ grows towards 1, KL falls towards 0, and the samples depend less and less on x. The "
          + "model stays as trained (β = 1).",
      start: () => takeImage(content.imageOrder[0], {own: "best"}),
      focus: "beta",
    },
    mixed && {
      title: `Between ${nameOf(mixed[0])} and ${nameOf(mixed[1])}`,
      text: () => `A decodes to ${article(classes[mixed[0]])} ${nameOf(mixed[0])}, B to ${
        article(classes[mixed[1]])} ${nameOf(mixed[1])}. Walk from one to the other: where does the ${
        content.noun} change? Is there one that could be either?`,
      start: () => {
        const kept = mixed.map((label, i) => ({letter: LETTERS[i], code: plainCode(label)}));
        pin(kept[0].code, {kept, walk: kept});
      },
      focus: "play",
    },
    {
      title: "Where is nothing?",
      text: () => "In the square, no place is farther from all test images than the blue dot; yet the "
        + `decoder draws something. Is it ${article(content.noun)} ${content.noun}? How far from the dots `
        + "does it still make sense?",
      start: () => pinAloud(emptiestCode()),
      focus: "plane",
    },
    mistaken && {
      title: `Why is this ${nameOf(mistaken.from)} ${article(classes[mistaken.to])} ${nameOf(mistaken.to)}?`,
      text: () => state.own && state.isBest ? answerOnMistaken(mistaken)
        : `Its code lies ${amongst(mistaken.to)}, and the decoder sees nothing but the code. The `
          + "posterior shows how probable each code is, given x. Could another Gaussian do better? Be the "
          + "encoder, and press Best.",
      start: () => takeImage(mistaken.number, {layer: "posterior"}),
      focus: "beEncoder",
    },
    training && {
      title: "Watch the training",
      text: () => "Epoch 0: random weights, one heap. Training spreads the images out; classes separate "
        + "although it never sees the labels. The KL divergence holds the cloud near the prior.",
      start: playTraining,
      focus: "unfold",
    },
  ].filter(Boolean);
}

/** What is said in place of the first line: of the task, or of one's own Gaussian. */
function coaching() {
  if (state.task !== null) return state.tasks[state.task].text();
  return state.own ? explanation() : "";
}

function showTask() {
  const text = coaching();
  for (const id of ["task", "taskBelow"]) {
    element(id).hidden = text === "";
    element(id).querySelector("button").hidden = state.task === null;
    const span = element(id).querySelector("span");
    if (span.textContent !== text) span.textContent = text;
  }
  element("lead").hidden = text !== "";
  showTaskList();
  [...element("taskList").children].forEach((item, place) =>
    item.firstChild.setAttribute("aria-pressed", place === state.task));
}

const showTaskList = remembered(() => {
  element("taskList").replaceChildren(...state.tasks.map(({title}, place) =>
    make("li", {}, make("button", {textContent: title, onclick: () => startTask(place)}))));
});
