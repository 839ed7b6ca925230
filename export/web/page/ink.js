/**
 * Pen strokes to the features of a digit, as the UCI set was made: a bitmap of 32x32, ink counted in blocks
 * of 4x4.
 *
 * The digits of that set fill the height of their frame and have about the same amount of ink each, a narrow
 * "1" as much as a wide "0".  So strokes are scaled to the frame, centred, and drawn with a pen of the width
 * that gives that amount.
 */

const FRAME = 32;
const BLOCK = 4;
const CELLS = FRAME / BLOCK;

/** Mean number of inked pixels of a digit, measured on the whole set. */
const USUAL_INK = 312;

/** Half widths between which the pen is chosen, in pixels. */
const [THINNEST, THICKEST] = [1.4, 5];

/** How wide a digit may become, in pixels; those of the set leave the outer columns mostly free. */
const WIDEST = 26;

/**
 * @param {{x: number, y: number}[][]} strokes in any unit, y downwards
 * @returns {Float32Array | null} 64 features of 0..16, row by row; null if there is no ink
 */
export function featuresOf(strokes) {
  const points = strokes.flat();
  if (!points.length) return null;
  let [low, high] = [THINNEST, THICKEST];
  for (let step = 0; step < 12; step += 1) {
    const radius = (low + high) / 2;
    if (count(bitmap(fitted(strokes, points, radius), radius)) < USUAL_INK) low = radius;
    else high = radius;
  }
  const ink = bitmap(fitted(strokes, points, low), low);
  const features = new Float32Array(CELLS * CELLS);
  ink.forEach((isInked, pixel) => {
    const row = Math.floor(pixel / FRAME / BLOCK);
    const column = Math.floor((pixel % FRAME) / BLOCK);
    features[row * CELLS + column] += isInked;
  });
  return features;
}

/** Scaled and centred so that a pen of this radius stays within the frame. */
function fitted(strokes, points, radius) {
  const range = (key) => {
    const values = points.map((point) => point[key]);
    return [Math.min(...values), Math.max(...values)];
  };
  const [left, right] = range("x");
  const [top, bottom] = range("y");
  const room = (length, extent) => (extent > 0 ? (length - 2 * radius) / extent : Infinity);
  const scale = Math.min(room(FRAME, bottom - top), room(WIDEST, right - left));
  const zoom = Number.isFinite(scale) ? scale : 1;
  const place = ({ x, y }) => ({
    x: FRAME / 2 + zoom * (x - (left + right) / 2),
    y: FRAME / 2 + zoom * (y - (top + bottom) / 2),
  });
  return strokes.map((stroke) => stroke.map(place));
}

/** 1 where a pixel's centre lies under the pen. */
function bitmap(strokes, radius) {
  const ink = new Uint8Array(FRAME * FRAME);
  for (const stroke of strokes) {
    stroke.forEach((end, number) => {
      const start = stroke[Math.max(number - 1, 0)];
      const span = (from, to) => [
        Math.max(Math.floor(Math.min(from, to) - radius), 0),
        Math.min(Math.ceil(Math.max(from, to) + radius), FRAME),
      ];
      const [firstRow, lastRow] = span(start.y, end.y);
      const [firstColumn, lastColumn] = span(start.x, end.x);
      for (let row = firstRow; row < lastRow; row += 1) {
        for (let column = firstColumn; column < lastColumn; column += 1) {
          if (distance(column + 0.5, row + 0.5, start, end) <= radius) ink[row * FRAME + column] = 1;
        }
      }
    });
  }
  return ink;
}

/** From a point to a line segment. */
function distance(x, y, start, end) {
  const [dx, dy] = [end.x - start.x, end.y - start.y];
  const length = dx * dx + dy * dy;
  const along = length ? ((x - start.x) * dx + (y - start.y) * dy) / length : 0;
  const t = Math.min(Math.max(along, 0), 1);
  return Math.hypot(x - start.x - t * dx, y - start.y - t * dy);
}

function count(ink) {
  return ink.reduce((sum, pixel) => sum + pixel, 0);
}
