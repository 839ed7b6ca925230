/** Sent and received points on the constellation. */

import { drawing, svg } from "./dom.js";
import { bitsOf } from "../link/qam.js";

const SIZE = 320;
const REACH = 1.75; // amplitude at the edge
const EDGE = 1.72; // where points are drawn that lie farther out
const LABELLED = 16; // bits are written next to the points of a constellation up to this order

const x = (value) => (SIZE / 2) * (1 + clipped(value) / REACH);
const y = (value) => (SIZE / 2) * (1 - clipped(value) / REACH);
const clipped = (value) => Math.min(Math.max(value, -EDGE), EDGE);

/**
 * @param {import("../link/qam.js").Constellation} constellation of the payload
 * @param {{re: number, im: number}[]} sent points of the payload on the constellation
 * @param {{re: number, im: number}[]} received as the receiver scales them
 * @param {{sent: object[], received: object[]}} header the same of the header's symbols
 */
export function constellationDrawing(constellation, sent, received, header) {
  const label = `${constellation.order}-QAM: ${sent.length} points sent, and where they were received`;
  return drawing(
    SIZE,
    SIZE,
    label,
    svg("path", { class: "axis", d: `M0 ${SIZE / 2}H${SIZE}M${SIZE / 2} 0V${SIZE}` }),
    ...grid(constellation),
    ...paths(sent, received),
    ...paths(header.sent, header.received),
    ...header.sent.map((point) => square(point)),
    ...sent.map((point) => circle(point, 6.5, "sent-point", 2)),
    ...[...received, ...header.received].map((point) => circle(point, 2.8, "received-point")),
  );
}

function grid({ order, bitsPerSymbol, re, im }) {
  return Array.from(re, (real, number) => {
    const point = { re: real, im: im[number] };
    const dot = circle(point, order > LABELLED ? 1.6 : 2.4, "point", 1);
    if (order > LABELLED) return dot;
    const bits = bitsOf(number, bitsPerSymbol).join("");
    const place = { x: x(point.re), y: y(point.im) + 18, "font-size": 9.5, "text-anchor": "middle" };
    return svg("g", {}, dot, svg("text", place, bits));
  });
}

function paths(from, to) {
  return from.map((start, place) =>
    svg("line", {
      class: "path",
      x1: x(start.re),
      y1: y(start.im),
      x2: x(to[place].re),
      y2: y(to[place].im),
    }),
  );
}

function circle({ re, im }, r, kind, width = 0) {
  return svg("circle", { class: kind, cx: x(re), cy: y(im), r, "stroke-width": width });
}

function square({ re, im }) {
  const side = 14;
  const corner = { x: x(re) - side / 2, y: y(im) - side / 2 };
  return svg("rect", { class: "header-point", ...corner, width: side, height: side, "stroke-width": 2 });
}
