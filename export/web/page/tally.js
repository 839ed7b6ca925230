/** Right decisions counted by Es/N0, and their chart. */

import { drawing, svg } from "./dom.js";

const Z = 1.96; // 95 %

/** Wilson's interval of a share, 95 %. */
export function wilson(right, total) {
  const share = right / total;
  const centre = share + Z ** 2 / (2 * total);
  const spread = Z * Math.sqrt((share * (1 - share)) / total + Z ** 2 / (4 * total ** 2));
  const scale = 1 + Z ** 2 / total;
  return [(centre - spread) / scale, (centre + spread) / scale];
}

/** Counts of one choice of the mode. */
export class Tally {
  #counts = new Map();

  /** Add a batch that was sent at an Es/N0. */
  add(snrDb, right, total, symbols) {
    const count = this.at(snrDb);
    this.#counts.set(snrDb, {
      right: count.right + right,
      total: count.total + total,
      symbols: count.symbols + symbols,
    });
  }

  /** What was counted at an Es/N0. */
  at(snrDb) {
    return this.#counts.get(snrDb) ?? { right: 0, total: 0, symbols: 0 };
  }

  entries() {
    return [...this.#counts];
  }
}

const HEIGHT = 240;
const [LEFT, RIGHT, TOP, BOTTOM] = [40, 8, 8, 34];

/**
 * Accuracy over Es/N0.
 *
 * @param {Tally} tally
 * @param {number} nowDb where the slider stands
 * @param {[number, number]} rangeDb of the slider
 * @param {{esn0_db: number[], correct: number[], samples: number, trials: number} | null} reference the
 *   manifest's own measurement
 * @param {number} width of the drawing in pixels
 */
export function chart(tally, nowDb, rangeDb, reference, width) {
  const measured = tally
    .entries()
    .map(([snrDb, { right, total }]) => [snrDb, right / total, wilson(right, total)]);
  const known = reference
    ? reference.esn0_db.map((snrDb, place) => [
        snrDb,
        reference.correct[place] / (reference.samples * reference.trials),
      ])
    : [];
  const lowest = Math.min(0.9, ...measured.map(([, , [low]]) => low), ...known.map(([, share]) => share));
  const floor = Math.max(Math.floor(lowest * 10) / 10, 0);
  const x = (snrDb) => LEFT + ((snrDb - rangeDb[0]) / (rangeDb[1] - rangeDb[0])) * (width - LEFT - RIGHT);
  const y = (share) => HEIGHT - BOTTOM - ((share - floor) / (1 - floor)) * (HEIGHT - TOP - BOTTOM);

  const shown = known.filter(([snrDb]) => snrDb >= rangeDb[0] && snrDb <= rangeDb[1]);
  const curve = shown.map(([snrDb, share]) => `${x(snrDb).toFixed(1)},${y(share).toFixed(1)}`).join(" ");
  const marks = measured.flatMap(([snrDb, share, [low, high]]) => [
    svg("line", { class: "interval", x1: x(snrDb), x2: x(snrDb), y1: y(low), y2: y(high) }),
    svg("circle", { class: "measured", cx: x(snrDb), cy: y(share), r: 3.5 }),
  ]);
  return drawing(
    width,
    HEIGHT,
    "accuracy over Es/N0",
    ...shareTicks(floor, y, width),
    ...snrTicks(rangeDb, x, width),
    svg("polyline", { class: "curve", points: curve }),
    svg("line", { class: "now", x1: x(nowDb), x2: x(nowDb), y1: TOP, y2: HEIGHT - BOTTOM }),
    ...marks,
  );
}

function shareTicks(floor, y, width) {
  const step = floor < 0.5 ? 0.2 : floor < 0.8 ? 0.1 : 0.02;
  const shares = [];
  for (let share = 1; share >= floor - 1e-9; share -= step) shares.push(share);
  return shares.flatMap((share) => [
    svg("path", { class: "axis", d: `M${LEFT} ${y(share)}H${width - RIGHT}` }),
    svg("text", { x: LEFT - 5, y: y(share) + 3.5, "font-size": 11, "text-anchor": "end" }, share.toFixed(2)),
  ]);
}

function snrTicks([low, high], x, width) {
  const ticks = [];
  for (let snrDb = Math.ceil(low / 5) * 5; snrDb <= high; snrDb += 5) ticks.push(snrDb);
  const style = { y: HEIGHT - BOTTOM + 15, "font-size": 11, "text-anchor": "middle" };
  const title = { x: (LEFT + width) / 2, y: HEIGHT - 4, "font-size": 11, "text-anchor": "middle" };
  return [
    ...ticks.map((snrDb) => svg("text", { x: x(snrDb), ...style }, `${snrDb}`.replace("-", "\u2212"))),
    svg("text", title, "Es/N0 in dB"),
  ];
}
