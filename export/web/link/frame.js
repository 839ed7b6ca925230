/**
 * The frame of a sample on the air: header symbols, payload symbols, then nothing.
 *
 * The header is QPSK of unit energy; the payload of each mode is scaled to unit average energy by itself.
 */

import { llrExact } from "./demap.js";
import { qam } from "./qam.js";
import { chooseMode } from "./routing.js";

const HEADER_ORDER = 4;

/** Symbols of the longest frame. */
export const frameWidth = (bundle) => bundle.header.maxSymbols + bundle.maxSymbols;

/**
 * The points that a sample puts on the air, zero after its frame.
 *
 * @param {import("./bundle.js").Bundle} bundle
 * @param {{mode: number, symbols: Int32Array, header: Int32Array}} sent a row of a `Transmission`
 * @returns {{re: Float64Array, im: Float64Array}} (frameWidth,)
 */
export function framed(bundle, sent) {
  const points = { re: new Float64Array(frameWidth(bundle)), im: new Float64Array(frameWidth(bundle)) };
  place(points, 0, sent.header, qam(HEADER_ORDER), 1);
  place(
    points,
    sent.header.length,
    sent.symbols,
    qam(bundle.modes[sent.mode].order),
    bundle.amplitudes[sent.mode],
  );
  return points;
}

function place(points, start, symbols, constellation, amplitude) {
  symbols.forEach((number, position) => {
    points.re[start + position] = constellation.re[number] / amplitude;
    points.im[start + position] = constellation.im[number] / amplitude;
  });
}

/**
 * Points plus Gaussian noise.
 *
 * @param {{re: Float64Array, im: Float64Array}} points
 * @param {{re: Float64Array, im: Float64Array}} noise of total variance 1
 * @param {number} noiseVar N0
 */
export function throughNoise(points, noise, noiseVar) {
  const deviation = Math.sqrt(noiseVar);
  const add = (axis) => points[axis].map((value, n) => value + deviation * noise[axis][n]);
  return { re: add("re"), im: add("im") };
}

/**
 * What the receiver makes of a frame before its graph runs.
 *
 * @param {import("./bundle.js").Bundle} bundle
 * @param {{re: Float64Array, im: Float64Array}} received (frameWidth,)
 * @param {number} noiseVar N0
 * @param {number} snrDb the receiver's own Es/N0
 * @param {number | null} [requested] number of the mode, where both ends agreed on it beforehand
 * @returns {{mode: number, start: number, llr: Float64Array}} the mode that it believes in, where it takes
 *   the payload to begin, and LLRs, (maxBits,), zero after the mode's bits
 */
export function demodulated(bundle, received, noiseVar, snrDb, requested = null) {
  const { header, modes, manifest, amplitudes } = bundle;
  const start = header.symbolCount(snrDb);
  let mode = requested;
  if (mode === null && header.isSent) {
    mode = header.decode(llrExact(part(received, 0, start), qam(HEADER_ORDER), noiseVar), snrDb);
  } else if (mode === null) {
    mode = chooseMode(manifest.routing.table, snrDb);
  }
  const payload = part(received, start, modes[mode].symbols);
  const llr = new Float64Array(bundle.maxBits);
  const bound = manifest.llr_clip;
  llr.set(llrExact(payload, qam(modes[mode].order), noiseVar, 1 / amplitudes[mode], bound));
  return { mode, start, llr };
}

function part({ re, im }, start, length) {
  return { re: re.subarray(start, start + length), im: im.subarray(start, start + length) };
}
