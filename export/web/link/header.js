/**
 * The header of a frame: a short block code over QPSK that tells the receiver the mode.
 *
 * Both ends derive the code from their own Es/N0.  The mode's number, MSB first, is the message: as it is
 * (`plain`), repeated (`repeatR`), or of a first-order Reed-Muller code RM(1,m).
 */

import { ArtifactError, InputError } from "./errors.js";
import { bitsOf } from "./qam.js";
import { stepOf } from "./routing.js";

const REED_MULLER = { rm12: 2, hamming84: 3, rm14: 4, rm15: 5, rm16: 6 };

/** The headers of a link; of no symbols where `steps` is empty. */
export class Header {
  /**
   * @param {{from_db: number, code: string}[]} steps the manifest's `routing.header`
   * @param {number} modesCount
   */
  constructor(steps, modesCount) {
    this.steps = steps;
    this.codes = steps.map((step) => codewords(step.code, modesCount));
    /** Symbols of the longest code. */
    this.maxSymbols = Math.max(0, ...this.codes.map((words) => words[0].length / 2));
  }

  get isSent() {
    return this.steps.length > 0;
  }

  /** Channel uses of the header at an Es/N0. */
  symbolCount(snrDb) {
    return this.isSent ? this.#words(snrDb)[0].length / 2 : 0;
  }

  /** QPSK point numbers that tell a mode. */
  encode(mode, snrDb) {
    if (!this.isSent) return new Int32Array(0);
    const word = this.#words(snrDb)[mode];
    if (!word) throw new InputError(`'mode' must be a mode of the link, not ${mode}`);
    return Int32Array.from({ length: word.length / 2 }, (_, n) => 2 * word[2 * n] + word[2 * n + 1]);
  }

  /**
   * The mode whose codeword correlates best with the LLRs of a frame's first bits; of equals the lowest.
   *
   * @param {ArrayLike<number>} llr at least as many as the code at `snrDb` has bits
   * @param {number} snrDb the receiver's Es/N0
   */
  decode(llr, snrDb) {
    let best = 0;
    let bestScore = -Infinity;
    this.#words(snrDb).forEach((word, mode) => {
      const score = word.reduce((sum, bit, position) => sum + (2 * bit - 1) * llr[position], 0);
      if (score > bestScore) [best, bestScore] = [mode, score];
    });
    return best;
  }

  #words(snrDb) {
    // The first step applies below its own threshold, too.
    const thresholds = this.steps.slice(1).map((step) => step.from_db);
    return this.codes[stepOf(thresholds, snrDb)];
  }
}

/** The bits that tell each mode: (modes, n), n even. */
function codewords(name, modesCount) {
  const indexBits = Math.ceil(Math.log2(modesCount));
  const rows = generator(name, indexBits);
  if (rows.length < indexBits)
    throw new ArtifactError(`header code '${name}' cannot tell ${modesCount} modes`);
  return Array.from({ length: modesCount }, (_, mode) => {
    const message = bitsOf(mode, indexBits);
    return rows[0].map((_, column) => message.reduce((sum, bit, row) => sum ^ (bit & rows[row][column]), 0));
  });
}

/** Generator matrix, (k, n). */
function generator(name, indexBits) {
  if (name in REED_MULLER) {
    const variables = REED_MULLER[name];
    const columns = Array.from({ length: 2 ** variables }, (_, column) => bitsOf(column, variables));
    const rows = Array.from({ length: variables }, (_, row) => columns.map((bits) => bits[row]));
    return [columns.map(() => 1), ...rows];
  }
  const repeated = /^(?:plain|repeat(\d+))$/.exec(name);
  if (!repeated) throw new ArtifactError(`header code '${name}' is unknown`);
  const n = indexBits * Number(repeated[1] ?? 1);
  const even = n + (n % 2);
  return Array.from({ length: indexBits }, (_, row) =>
    Array.from({ length: even }, (_, column) => (column < n && column % indexBits === row ? 1 : 0)),
  );
}
