/** Replaying a bundle's conformance vectors: does this runtime send what was trained? */

import { ArtifactError } from "./errors.js";
import { readTensor } from "./protobuf.js";
import { Graph, largest, MODE_REQUEST } from "./runtime.js";
import { sha256 } from "./sha256.js";

/** Largest difference of a real output: absolute plus relative. */
export const TOLERANCE = 1e-4;

/** Inputs and outputs of each graph, in the order of the files. */
const OUTPUTS = {
  "tx.onnx": ["mode", "indices", "bits", "symbols", "bit_count", "symbol_count"],
  "rx.onnx": ["logits", "posterior", "indices"],
};

/**
 * Replay all sets.
 *
 * @param {object} ort onnxruntime-node or onnxruntime-web
 * @param {import("./bundle.js").Bundle} bundle
 * @param {object} [options] of `InferenceSession.create`
 * @returns {Promise<{sets: object[], sha256: string, expectedSha256: string, passed: boolean}>} one entry per
 *   set: folder, graph, description, samples, `differing` counts by output, largest error of a real output,
 *   passed
 */
export async function replay(ort, bundle, options = {}) {
  const { conformance } = bundle.manifest;
  if (!conformance) throw new ArtifactError("'link.json' names no conformance vectors");
  const graphs = new Map();
  const sets = [];
  const streams = [];
  for (const { folder, graph, description } of conformance.sets) {
    if (!(graph in OUTPUTS)) throw new ArtifactError(`'${folder}' is for '${graph}', which has no vectors`);
    if (!graphs.has(graph)) graphs.set(graph, await Graph.load(ort, bundle, graph, options));
    const inputs = await tensors(bundle, folder, "input");
    const expected = await tensors(bundle, folder, "output");
    const missing = OUTPUTS[graph].filter((name) => !expected.some((tensor) => tensor.name === name));
    if (missing.length) throw new ArtifactError(`'${folder}' lacks ${missing.join(", ")}`);
    const outputs = await graphs.get(graph).run(feedsOf(ort, inputs, graphs.get(graph)));
    if (graph === "tx.onnx") streams.push(symbolStream(outputs));
    sets.push({ folder, graph, description, ...judged(expected, outputs) });
  }
  const hash = sha256(streams);
  return {
    sets,
    sha256: hash,
    expectedSha256: conformance.symbols_sha256,
    passed: sets.every((set) => set.passed) && hash === conformance.symbols_sha256,
  };
}

/** For each sample its mode, then the symbols that are sent, one byte each. */
export function symbolStream({ mode, symbols, symbol_count: count }) {
  const width = symbols.data.length / mode.data.length;
  const bytes = [];
  mode.data.forEach((number, sample) => {
    bytes.push(Number(number));
    const end = sample * width + Number(count.data[sample]);
    for (let place = sample * width; place < end; place += 1) bytes.push(Number(symbols.data[place]));
  });
  return Uint8Array.from(bytes);
}

async function tensors(bundle, folder, side) {
  const found = [];
  for (let name; (name = `${folder}/${side}_${found.length}.pb`) in bundle.manifest.files;) {
    found.push(readTensor(await bundle.file(name)));
  }
  if (!found.length) throw new ArtifactError(`'link.json' lists no '${folder}/${side}_0.pb'`);
  return found;
}

function feedsOf(ort, inputs, graph) {
  const feeds = Object.fromEntries(
    inputs.map(({ name, type, data, dims }) => [name, new ort.Tensor(type, data, dims)]),
  );
  if (graph.inputNames.includes(MODE_REQUEST)) {
    feeds[MODE_REQUEST] ??= new ort.Tensor("int64", BigInt64Array.from([-1n]), [1]);
  }
  return feeds;
}

/**
 * Compare outputs with what is expected: whole numbers must be equal, real outputs agree within the tolerance
 * and logits decide alike.
 *
 * @param {{name: string, type: string, data: ArrayLike<number> | BigInt64Array, dims: number[]}[]} expected
 * @param {Record<string, {data: ArrayLike<number> | BigInt64Array, dims: number[]}>} outputs
 * @returns {{samples: number, differing: Record<string, number>, differingSamples: number, error: number,
 *   passed: boolean}} `differing`: how many values of each output differ, and of `decision` where there are
 *   logits
 */
export function judged(expected, outputs) {
  const samples = expected[0].dims[0];
  const differing = {};
  const hit = new Set();
  let error = 0;
  for (const { name, type, data, dims } of expected) {
    const actual = outputs[name];
    const sameShape = actual?.dims.join() === dims.join();
    const width = data.length / samples;
    let count = 0;
    for (let place = 0; place < data.length; place += 1) {
      let isEqual = sameShape && data[place] === actual.data[place];
      if (sameShape && type === "float32") {
        const gap = Math.abs(actual.data[place] - data[place]) / (1 + Math.abs(data[place]));
        error = Math.max(error, gap);
        isEqual = gap <= TOLERANCE; // false for NaN
      }
      if (!isEqual) {
        count += 1;
        hit.add(Math.floor(place / width));
      }
    }
    differing[name] = count;
    if (name === "logits") {
      const wrong = sameShape ? otherDecisions(data, actual.data, dims) : [...Array(samples).keys()];
      differing.decision = wrong.length;
      wrong.forEach((sample) => hit.add(sample));
    }
  }
  return { samples, differing, differingSamples: hit.size, error, passed: hit.size === 0 };
}

/** Samples whose largest logit lies elsewhere. */
function otherDecisions(left, right, [samples, classes]) {
  const decided = (values, sample) => largest(values.subarray(sample * classes, (sample + 1) * classes));
  return [...Array(samples).keys()].filter((sample) => decided(left, sample) !== decided(right, sample));
}
