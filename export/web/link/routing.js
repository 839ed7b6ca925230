/** The mode of a sample as a step function of Es/N0, and the memory that keeps one end from flapping. */

import { InputError } from "./errors.js";

/** Es/N0 in dB as the graphs see it: float32, finite. */
export function esn0(snrDb) {
  const value = Math.fround(snrDb);
  if (!Number.isFinite(value)) throw new InputError(`'snrDb' must be a finite number, not ${snrDb}`);
  return value;
}

/** N0 = 10^(-SNR/10) at Es = 1. */
export const noiseVariance = (snrDb) => 10 ** (-snrDb / 10);

/**
 * Which step of ascending thresholds a value lies in; a threshold belongs to the step above it.
 *
 * @param {number[]} thresholdsDb
 * @param {number} snrDb
 */
export function stepOf(thresholdsDb, snrDb) {
  const value = esn0(snrDb);
  return thresholdsDb.filter((threshold) => value >= threshold).length;
}

/**
 * What the receiver of a link without a header takes the mode for.
 *
 * @param {{thresholds_db: number[], modes: number[]}} table the manifest's `routing.table`
 * @param {number} snrDb the receiver's own Es/N0
 */
export function chooseMode(table, snrDb) {
  return table.modes[stepOf(table.thresholds_db, snrDb)];
}

/**
 * What one end of a `table` link remembers, so that a jittering estimate does not flip the mode.
 *
 * Pass each end's estimates through its own instance and hand on what comes out.
 */
export class Hysteresis {
  #table;
  #hysteresisDb;
  #bounds = null;

  /**
   * @param {{thresholds_db: number[], modes: number[]}} table
   * @param {number} hysteresisDb how far an estimate may leave the current step
   */
  constructor(table, hysteresisDb) {
    if (!(hysteresisDb >= 0) || !Number.isFinite(hysteresisDb)) {
      throw new InputError(`'hysteresisDb' must be finite and at least 0, not ${hysteresisDb}`);
    }
    this.#table = table;
    this.#hysteresisDb = hysteresisDb;
  }

  /** The Es/N0 to act on: the estimate, or the nearest float32 inside the step that is held. */
  hold(snrDb) {
    const estimate = esn0(snrDb);
    if (this.#bounds) {
      const [lower, upper] = this.#bounds;
      if (lower <= estimate && estimate < upper) return estimate;
      if (lower > estimate && lower - estimate < this.#hysteresisDb) return lower;
      if (estimate >= upper && estimate - upper < this.#hysteresisDb) return justBelow(upper);
    }
    const thresholds = [-Infinity, ...this.#table.thresholds_db, Infinity];
    const step = stepOf(this.#table.thresholds_db, estimate);
    this.#bounds = [thresholds[step], thresholds[step + 1]];
    return estimate;
  }
}

/** The largest float32 below a float32. */
function justBelow(value) {
  const cell = new Float32Array([value]);
  const word = new Int32Array(cell.buffer);
  if (value === 0) word[0] = 0x80000001 | 0;
  else word[0] += value > 0 ? -1 : 1;
  return cell[0];
}
