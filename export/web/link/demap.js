/**
 * Received symbols to log-likelihood ratios, log P(b=1|y) - log P(b=0|y): positive means 1.
 *
 * The channel is y = gain x + n with n complex Gaussian of total variance N0.  Each axis of a square QAM is
 * an amplitude modulation by itself, so that the sums run over sqrt(M) levels:
 *
 *   LLR_b = log sum_{a: b=1} exp(-(y - gain a)^2 / N0) - log sum_{a: b=0} exp(-(y - gain a)^2 / N0)
 */

import { InputError } from "./errors.js";

/** Bound on |LLR|. */
export const LLR_CLIP = 100;

const TINY = 2 ** -1022; // below it sums underflow, but only where |LLR| is far beyond the bound

/**
 * Exact LLRs.
 *
 * @param {{re: ArrayLike<number>, im: ArrayLike<number>}} received n symbols
 * @param {import("./qam.js").Constellation} constellation
 * @param {number} noiseVar N0, total complex variance; above 0
 * @param {number} [gain] real gain of the channel
 * @param {number} [clip] bound on |LLR|
 * @returns {Float64Array} (n * bitsPerSymbol,), the bits of a symbol side by side, MSB first
 */
export function llrExact(received, constellation, noiseVar, gain = 1, clip = LLR_CLIP) {
  if (!(noiseVar > 0) || !Number.isFinite(noiseVar)) {
    throw new InputError(`'noiseVar' must be positive and finite, not ${noiseVar}`);
  }
  if (!Number.isFinite(gain)) throw new InputError(`'gain' must be finite, not ${gain}`);
  const { bitsPerSymbol } = constellation;
  const llr = new Float64Array(received.re.length * bitsPerSymbol);
  for (let symbol = 0; symbol < received.re.length; symbol += 1) {
    axisLlr(received.re[symbol], constellation, noiseVar, gain, clip, llr, symbol * bitsPerSymbol);
    axisLlr(received.im[symbol], constellation, noiseVar, gain, clip, llr, symbol * bitsPerSymbol + 1);
  }
  return llr;
}

function axisLlr(coordinate, constellation, noiseVar, gain, clip, llr, offset) {
  if (!Number.isFinite(coordinate)) throw new InputError(`'received' must be finite, not ${coordinate}`);
  const { axisLevels, axisLabels } = constellation;
  const deviation = Math.sqrt(noiseVar);
  const amplitude = gain / deviation;
  // Without y^2 / N0, which is common to all levels and would swallow the differences far outside.
  const slope = 2 * amplitude * (coordinate / deviation);
  const metric = axisLevels.map((level) => slope * level - (amplitude * level) ** 2);
  const largest = metric.reduce((left, right) => Math.max(left, right));
  const weights = metric.map((value) => Math.exp(value - largest));
  for (let bit = 0; bit < axisLabels[0].length; bit += 1) {
    let ones = 0;
    let zeros = 0;
    weights.forEach((weight, level) => {
      if (axisLabels[level][bit]) ones += weight;
      else zeros += weight;
    });
    const value = Math.log(Math.max(ones, TINY)) - Math.log(Math.max(zeros, TINY));
    llr[offset + 2 * bit] = Math.min(Math.max(value, -clip), clip);
  }
}
