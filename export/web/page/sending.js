/** Sending the test samples over and over, and counting right decisions. */

import { byId, decimal } from "./dom.js";
import { chart, Tally, wilson } from "./tally.js";
import { transferMany } from "./transfer.js";

const BATCH = 30; // samples sent between two redraws

/** The counts of each choice of the mode, and the part of the page that shows them. */
export class Sending {
  #link;
  #generator;
  #rangeDb;
  #tallies = new Map();
  #snrDb = 0;
  #request = null;
  #isRunning = false;

  /**
   * @param {import("./load.js").Link} link
   * @param {import("../link/random.js").Generator} generator
   * @param {[number, number]} rangeDb of the slider
   */
  constructor(link, generator, rangeDb) {
    this.#link = link;
    this.#generator = generator;
    this.#rangeDb = rangeDb;
  }

  /** What is sent from now on. */
  set(snrDb, request) {
    this.#snrDb = snrDb;
    this.#request = request;
    this.#show();
  }

  reset() {
    this.#tallies.clear();
    this.#show();
  }

  /** Send every test sample once, or stop doing so. */
  async toggle() {
    this.#isRunning = !this.#isRunning;
    if (!this.#isRunning) return;
    byId("run").textContent = "Pause";
    try {
      await this.#sendAll();
    } finally {
      this.#isRunning = false;
      byId("run").textContent = "Send test samples";
    }
  }

  /** In batches, each at the Es/N0 that the slider shows by then. */
  async #sendAll() {
    const { count } = this.#link.samples;
    for (let start = 0; start < count && this.#isRunning; start += BATCH) {
      const places = Array.from({ length: Math.min(BATCH, count - start) }, (_, row) => start + row);
      const [snrDb, request, tally] = [this.#snrDb, this.#request, this.#tally];
      const { right, symbols } = await transferMany(this.#link, places, snrDb, request, this.#generator);
      tally.add(snrDb, right, places.length, symbols);
      this.#show();
      await new Promise(requestAnimationFrame);
    }
  }

  /** What was counted with the mode chosen as it is now. */
  get #tally() {
    if (!this.#tallies.has(this.#request)) this.#tallies.set(this.#request, new Tally());
    return this.#tallies.get(this.#request);
  }

  #show() {
    // The exporter measured the routed link; a requested mode has no curve.
    const reference = this.#request === null ? this.#link.bundle.manifest.accuracy : null;
    byId("tally").textContent = sentence(this.#snrDb, this.#tally.at(this.#snrDb));
    byId("tally-note").textContent = reference
      ? `Grey: measured by the exporter, ${reference.trials} times ${reference.samples} samples at each Es/N0.`
      : "";
    const width = byId("chart").clientWidth;
    byId("chart").replaceChildren(chart(this.#tally, this.#snrDb, this.#rangeDb, reference, width));
  }
}

function sentence(snrDb, { right, total, symbols }) {
  const where = `At ${decimal(snrDb)} dB`;
  if (total === 0) return `${where}: nothing sent yet.`;
  const percent = (share) => (100 * share).toFixed(1);
  const [low, high] = wilson(right, total);
  return (
    `${where}: ${right} of ${total} right, ${percent(right / total)} % ` +
    `(95 %: ${percent(low)} to ${percent(high)}), ${(symbols / total).toFixed(1)} symbols per sample.`
  );
}
