/**
 * QAM constellations of 3GPP TS 38.211 clauses 5.1.3 to 5.1.6, with unit average energy.
 *
 * The number of a point is the number that its bits spell, MSB first.  Bits 0, 2, 4, ... choose the real part
 * and bits 1, 3, 5, ... the imaginary part, by the same rule.
 */

import { InputError } from "./errors.js";

const ORDERS = [4, 16, 64, 256];
const made = new Map();

/**
 * @typedef {object} Constellation
 * @property {number} order M, the number of points
 * @property {number} bitsPerSymbol log2 M
 * @property {Float64Array} re real parts, (M,)
 * @property {Float64Array} im imaginary parts, (M,)
 * @property {Float64Array} axisLevels amplitudes of either axis, ascending, (sqrt M,)
 * @property {Uint8Array[]} axisLabels bits of each amplitude, (sqrt M, bitsPerSymbol / 2)
 */

/** The bits of a number, MSB first. */
export function bitsOf(number, width) {
  return Uint8Array.from({ length: width }, (_, position) => (number >> (width - 1 - position)) & 1);
}

/**
 * QPSK (4), 16-, 64- or 256-QAM.
 *
 * @param {number} order
 * @returns {Constellation}
 */
export function qam(order) {
  if (!ORDERS.includes(order)) throw new InputError(`'order' must be 4, 16, 64 or 256, not ${order}`);
  if (!made.has(order)) made.set(order, make(order));
  return made.get(order);
}

function make(order) {
  const bitsPerSymbol = Math.log2(order);
  const scale = Math.sqrt((2 * (order - 1)) / 3);
  const re = new Float64Array(order);
  const im = new Float64Array(order);
  for (let number = 0; number < order; number += 1) {
    const bits = bitsOf(number, bitsPerSymbol);
    re[number] = amplitude(bits.filter((_, position) => position % 2 === 0)) / scale;
    im[number] = amplitude(bits.filter((_, position) => position % 2 === 1)) / scale;
  }
  const axis = Array.from({ length: Math.sqrt(order) }, (_, number) => bitsOf(number, bitsPerSymbol / 2));
  axis.sort((left, right) => amplitude(left) - amplitude(right));
  const axisLevels = Float64Array.from(axis, (bits) => amplitude(bits) / scale);
  return Object.freeze({ order, bitsPerSymbol, re, im, axisLevels, axisLabels: axis });
}

/** (1-2b0) [2^(m-1) - (1-2b1) [2^(m-2) - ... (1-2b_{m-1})]], from the innermost bracket outwards. */
function amplitude(bits) {
  const width = bits.length;
  let value = 1 - 2 * bits[width - 1];
  for (let position = width - 2; position >= 0; position -= 1) {
    value = (1 - 2 * bits[position]) * (2 ** (width - 1 - position) - value);
  }
  return value;
}
