/** Edge inference: the transmitter and the receiver of a bundle over ONNX Runtime. */

import { ArtifactError, InputError } from "./errors.js";
import { withoutDefault } from "./protobuf.js";
import { esn0 } from "./routing.js";

/** Input of the transmitter of a link with several modes; -1 leaves the mode to the router. */
export const MODE_REQUEST = "mode_request";
const UNFORCED = -1;

const SESSION = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 };

// One run at a time, whatever the graph: sessions of onnxruntime-web allocate on one stack, across awaits.
let lastRun = Promise.resolve();

function inTurn(run) {
  const result = lastRun.then(run);
  lastRun = result.catch(() => {});
  return result;
}

/** One graph of a bundle in ONNX Runtime. */
export class Graph {
  #session;

  constructor(name, session) {
    this.name = name;
    this.#session = session;
    this.inputNames = session.inputNames;
    this.outputNames = session.outputNames;
  }

  /**
   * Load a graph whose hash is checked.
   *
   * @param {object} ort onnxruntime-node or onnxruntime-web
   * @param {import("./bundle.js").Bundle} bundle
   * @param {string} name file of the graph
   * @param {object} [options] of `InferenceSession.create`
   */
  static async load(ort, bundle, name, options = {}) {
    const model = withoutDefault(await bundle.file(name), MODE_REQUEST);
    try {
      return new Graph(name, await ort.InferenceSession.create(model, { ...SESSION, ...options }));
    } catch (error) {
      throw new ArtifactError(`'${name}' cannot be loaded: ${firstLine(error)}`);
    }
  }

  /** Outputs by name. */
  async run(feeds) {
    try {
      return await inTurn(() => this.#session.run(feeds));
    } catch (error) {
      throw new ArtifactError(`'${this.name}' cannot be run: ${firstLine(error)}`);
    }
  }
}

const firstLine = (error) =>
  String(error.message ?? error)
    .trim()
    .split("\n")[0];

/** What the transmitter sends for a batch; padded arrays, one row per sample. */
export class Transmission {
  constructor(outputs, headers) {
    const numbers = (name) => Int32Array.from(outputs[name].data, Number);
    this.mode = numbers("mode");
    this.indices = numbers("indices");
    this.bits = numbers("bits");
    this.symbols = numbers("symbols");
    this.bitCount = numbers("bit_count");
    this.symbolCount = numbers("symbol_count");
    /** QPSK point numbers that tell the mode, one array per sample; empty where no header is sent. */
    this.headers = headers(this.mode);
  }

  get length() {
    return this.mode.length;
  }

  /** What is really sent for one sample, without padding. */
  row(sample) {
    const part = (values, count) => {
      const width = values.length / this.length;
      return values.slice(sample * width, sample * width + (count ?? width));
    };
    return {
      mode: this.mode[sample],
      indices: part(this.indices).filter((index) => index >= 0),
      bits: part(this.bits, this.bitCount[sample]),
      symbols: part(this.symbols, this.symbolCount[sample]),
      header: this.headers[sample],
    };
  }
}

/** Numbers that cannot be in the units of the training data: pixels scaled, or bytes where none were. */
export function checkUnits(features, dtype) {
  const isByte = (value) => Number.isInteger(value) && value >= 0 && value <= 255;
  if (dtype === "uint8" && !Array.prototype.every.call(features, isByte)) {
    throw new InputError("'features' must be pixels, whole numbers 0..255, as this link was trained on");
  }
  if (dtype !== "uint8" && (features instanceof Uint8Array || features instanceof Uint8ClampedArray)) {
    throw new InputError("'features' must be in the units of the training data, which was no uint8");
  }
}

/** The hard transmitter of a bundle: features to codeword indices, bits and symbols. */
export class Transmitter {
  #ort;
  #graph;

  constructor(ort, bundle, graph) {
    this.#ort = ort;
    this.#graph = graph;
    this.bundle = bundle;
  }

  /** Load `tx.onnx`; arguments of {@link Graph.load} but the name. */
  static async load(ort, bundle, options = {}) {
    return new Transmitter(ort, bundle, await Graph.load(ort, bundle, "tx.onnx", options));
  }

  /**
   * Encode a batch.
   *
   * @param {ArrayLike<number>} features in the units of the training data, row by row, batch times
   *   `bundle.inputSize`; of a link of `uint8` pixels whole numbers 0..255, of any other no bytes
   * @param {number | ArrayLike<number>} snrDb Es/N0 in dB that the transmitter believes in, one or one per
   *   sample
   * @param {number | ArrayLike<number> | null} [mode] number of the mode to send in; null leaves it to the
   *   router
   * @returns {Promise<Transmission>}
   */
  async send(features, snrDb, mode = null) {
    const { bundle } = this;
    const batch = features.length / bundle.inputSize;
    if (!Number.isInteger(batch) || batch < 1) {
      throw new InputError(
        `'features' must hold samples of ${bundle.inputSize}, not ${features.length} numbers`,
      );
    }
    const input = Float32Array.from(features);
    if (!input.every(Number.isFinite)) throw new InputError("'features' must be finite");
    checkUnits(features, bundle.manifest.input.dtype);
    const snr = Float32Array.from(each(snrDb, batch, "snrDb"), esn0);
    const feeds = {
      input: new this.#ort.Tensor("float32", input, [batch, ...bundle.manifest.input_shape]),
      snr_db: new this.#ort.Tensor("float32", snr, [batch]),
    };
    if (mode !== null) checkModes(each(mode, batch, "mode"), bundle);
    if (this.#graph.inputNames.includes(MODE_REQUEST)) {
      feeds[MODE_REQUEST] = int64(this.#ort, each(mode ?? UNFORCED, batch, "mode"));
    }
    const outputs = await this.#graph.run(feeds);
    return new Transmission(outputs, (modes) =>
      Array.from(modes, (number, sample) => bundle.header.encode(number, snr[sample])),
    );
  }
}

/** What the receiver concludes for a batch. */
export class Reception {
  constructor(outputs) {
    /** Class scores, (batch, classes), flat. */
    this.logits = outputs.logits.data;
    /** Most probable codeword of each token, (batch, max_tokens), flat; -1 after a mode's tokens. */
    this.indices = Int32Array.from(outputs.indices.data, Number);
    this.length = outputs.logits.dims[0];
    /** Decided class of each sample. */
    this.classes = Int32Array.from({ length: this.length }, (_, sample) => largest(this.row(sample).logits));
  }

  /** One sample's logits and indices. */
  row(sample) {
    const part = (values) => {
      const width = values.length / this.length;
      return values.slice(sample * width, (sample + 1) * width);
    };
    return { logits: part(this.logits), indices: part(this.indices).filter((index) => index >= 0) };
  }
}

/** The receiver of a bundle: LLRs and mode to class scores.  It sees nothing else. */
export class Receiver {
  #ort;
  #graph;

  constructor(ort, bundle, graph) {
    this.#ort = ort;
    this.#graph = graph;
    this.bundle = bundle;
  }

  /** Load `rx.onnx`; arguments of {@link Graph.load} but the name. */
  static async load(ort, bundle, options = {}) {
    return new Receiver(ort, bundle, await Graph.load(ort, bundle, "rx.onnx", options));
  }

  /**
   * Classify a batch.
   *
   * @param {ArrayLike<number>} llr row by row, batch times `bundle.maxBits`; zero where a sample has no bit
   * @param {number | ArrayLike<number>} mode number of the mode, one or one per sample
   * @returns {Promise<Reception>}
   */
  async receive(llr, mode) {
    const { bundle } = this;
    const batch = llr.length / bundle.maxBits;
    if (!Number.isInteger(batch) || batch < 1) {
      throw new InputError(`'llr' must hold rows of ${bundle.maxBits}, not ${llr.length} numbers`);
    }
    const values = Float32Array.from(llr);
    if (!values.every(Number.isFinite)) throw new InputError("'llr' must be finite");
    const modes = each(mode, batch, "mode");
    checkModes(modes, bundle);
    return new Reception(
      await this.#graph.run({
        llr: new this.#ort.Tensor("float32", values, [batch, bundle.maxBits]),
        mode: int64(this.#ort, modes),
      }),
    );
  }
}

/** Place of the largest value; of equals the first. */
export function largest(values) {
  return values.reduce((best, value, place) => (value > values[best] ? place : best), 0);
}

function each(values, batch, name) {
  if (typeof values === "number") return new Array(batch).fill(values);
  if (values?.length !== batch)
    throw new InputError(`'${name}' must be one number or ${batch}, one per sample`);
  return Array.from(values);
}

function checkModes(modes, { modes: known }) {
  const outlier = modes.find((mode) => !Number.isInteger(mode) || mode < 0 || mode >= known.length);
  if (outlier !== undefined)
    throw new InputError(`'mode' must lie in 0..${known.length - 1}, not ${outlier}`);
}

function int64(ort, numbers) {
  return new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [numbers.length]);
}
