// ==== Drawings: strokes on the pad -> pixels of an image ==========================================

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

/** The cells that strokes, lists of [x, y], ink. */
function inkOf(strokes) {
  const ink = new Set();
  for (const line of strokes) {
    line.forEach((point, i) => inkSegment(ink, line[Math.max(0, i - 1)], point));
  }
  return ink;
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
