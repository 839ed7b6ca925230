/** LLRs and class scores. */

import { drawing, html, svg } from "./dom.js";

const [HEIGHT, MARGIN] = [120, 32];

/**
 * A bar for each bit, on a logarithmic scale.
 *
 * @param {Float64Array} llr of the bits that the receiver believes in
 * @param {ArrayLike<number> | null} bits that were sent; null where the receiver took the mode for another
 * @param {number} bound on |LLR|
 * @param {number} pixels width of the drawing
 */
export function llrBars(llr, bits, bound, pixels) {
  const step = (pixels - MARGIN) / llr.length;
  const bars = Array.from(llr, (value, place) => {
    const height = Math.max(length(value, bound), 0.6);
    const isWrong = bits === null || value > 0 !== (bits[place] === 1);
    const corner = {
      x: MARGIN + place * step + step * 0.12,
      y: value > 0 ? HEIGHT / 2 - height : HEIGHT / 2,
    };
    const title = svg("title", {}, `bit ${place}: LLR ${value.toFixed(1)}`);
    return svg(
      "rect",
      { class: isWrong ? "bit wrong" : "bit", ...corner, width: step * 0.76, height },
      title,
    );
  });
  const ticks = [10, -10, bound, -bound].map((value) => {
    const at = HEIGHT / 2 - Math.sign(value) * length(value, bound);
    return svg(
      "g",
      {},
      svg("path", { class: "axis", d: `M${MARGIN} ${at}H${pixels}` }),
      svg(
        "text",
        { x: MARGIN - 4, y: at + 3, "font-size": 11, "text-anchor": "end" },
        `${value}`.replace("-", "\u2212"),
      ),
    );
  });
  const zero = svg("path", { class: "axis", d: `M${MARGIN} ${HEIGHT / 2}H${pixels}` });
  return drawing(pixels, HEIGHT, `log-likelihood ratios of ${llr.length} bits`, ...ticks, zero, ...bars);
}

const length = (value, bound) => (Math.log1p(Math.abs(value)) / Math.log1p(bound)) * (HEIGHT / 2 - 6);

/** Softmax of logits. */
export function probabilities(logits) {
  const largest = Math.max(...logits);
  const weights = Array.from(logits, (value) => Math.exp(value - largest));
  const sum = weights.reduce((left, right) => left + right, 0);
  return weights.map((weight) => weight / sum);
}

/** A row for each class: name, bar, probability. */
export function scoreRows(names, logits, decided) {
  return probabilities(logits).flatMap((probability, place) => {
    const fill = html("div", { className: place === decided ? "fill best" : "fill" });
    fill.style.width = `${(100 * probability).toFixed(2)}%`;
    const tag = place === decided ? "b" : "span";
    return [
      html(tag, {}, names[place]),
      html("div", { className: "track" }, fill),
      html(tag, {}, `${(100 * probability).toFixed(1)} %`),
    ];
  });
}
