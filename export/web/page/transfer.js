/** Samples through the whole link: transmitter, frame, noise, receiver. */

import { framed, frameWidth, demodulated, noiseVariance, qam, throughNoise } from "../link/index.js";

const HEADER_ORDER = 4;

/**
 * Send one sample.
 *
 * @param {import("./load.js").Link} link
 * @param {Float32Array} features
 * @param {number} snrDb that both ends know
 * @param {number | null} request mode to send in; null leaves it to the router
 * @param {{re: Float64Array, im: Float64Array}} noise of total variance 1
 */
export async function transfer({ bundle, transmitter, receiver }, features, snrDb, request, noise) {
  const sent = (await transmitter.send(features, snrDb, request)).row(0);
  const noiseVar = noiseVariance(snrDb);
  const air = throughNoise(framed(bundle, sent), noise, noiseVar);
  const reception = demodulated(bundle, air, noiseVar, snrDb, bundle.header.isSent ? null : request);
  const result = await receiver.receive(reception.llr, reception.mode);
  const constellation = qam(bundle.modes[sent.mode].order);
  return {
    sent,
    noiseVar,
    constellation,
    payload: pairs(constellation, sent.symbols, air, sent.header.length, bundle.amplitudes[sent.mode]),
    header: pairs(qam(HEADER_ORDER), sent.header, air, 0, 1),
    believed: reception.mode,
    llr: reception.llr.slice(0, bundle.modes[reception.mode].channelBits),
    decided: result.classes[0],
    ...result.row(0),
  };
}

/** Points as they stand on the constellation, and what came of them, in the same scale. */
function pairs({ re, im }, symbols, air, start, amplitude) {
  return {
    sent: Array.from(symbols, (number) => ({ re: re[number], im: im[number] })),
    received: Array.from(symbols, (_, place) => ({
      re: air.re[start + place] * amplitude,
      im: air.im[start + place] * amplitude,
    })),
  };
}

/**
 * Send many samples, each through noise of its own.
 *
 * @param {import("./load.js").Link} link
 * @param {number[]} places of test samples
 * @param {number} snrDb
 * @param {number | null} request
 * @param {import("../link/random.js").Generator} generator
 * @returns {Promise<{right: number, symbols: number}>} right decisions, and channel uses of all, headers
 *   included
 */
export async function transferMany(
  { bundle, transmitter, receiver, samples },
  places,
  snrDb,
  request,
  generator,
) {
  const features = new Float32Array(places.length * bundle.inputSize);
  places.forEach((place, row) => features.set(samples.features(place), row * bundle.inputSize));
  const sent = await transmitter.send(features, snrDb, request);
  const noiseVar = noiseVariance(snrDb);
  const llr = new Float32Array(places.length * bundle.maxBits);
  let symbols = 0;
  const believed = places.map((_, row) => {
    const one = sent.row(row);
    symbols += one.header.length + one.symbols.length;
    const air = throughNoise(framed(bundle, one), generator.complexNormal(frameWidth(bundle)), noiseVar);
    const reception = demodulated(bundle, air, noiseVar, snrDb, bundle.header.isSent ? null : request);
    llr.set(reception.llr, row * bundle.maxBits);
    return reception.mode;
  });
  const { classes } = await receiver.receive(llr, believed);
  return { right: places.filter((place, row) => classes[row] === samples.label[place]).length, symbols };
}
