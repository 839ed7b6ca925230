/** The bundle around this page, ONNX Runtime next to it, and the test samples. */

import * as ort from "../ort/ort.wasm.bundle.min.js";

import { ArtifactError, Bundle, Receiver, replay, Transmitter } from "../link/index.js";

const PAGE = new URL("..", import.meta.url);
const BUNDLE = new URL("..", PAGE);

/**
 * @typedef {object} Link
 * @property {Bundle} bundle
 * @property {Transmitter} transmitter
 * @property {Receiver} receiver
 * @property {{count: number, label: number[], features: (place: number) => Float32Array}} samples
 * @property {() => Promise<object>} conformance replays the bundle's vectors
 */

/** @returns {Promise<Link>} */
export async function loadLink() {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: new URL("ort/ort-wasm-simd-threaded.wasm", PAGE).href };
  const bundle = await Bundle.open(async (name) => new Uint8Array(await fetched(new URL(name, BUNDLE))));
  const transmitter = await Transmitter.load(ort, bundle);
  const receiver = await Receiver.load(ort, bundle);
  const { input, label } = JSON.parse(new TextDecoder().decode(await bundle.file("web/samples.json")));
  const samples = { count: input.length, label, features: (place) => Float32Array.from(input[place]) };
  return { bundle, transmitter, receiver, samples, conformance: () => replay(ort, bundle) };
}

async function fetched(address) {
  let response;
  try {
    response = await fetch(address, { cache: "no-cache" }); // a bundle may be made again in the same place
  } catch (error) {
    throw new ArtifactError(`'${address.pathname}' cannot be fetched: ${error.message}`);
  }
  if (!response.ok)
    throw new ArtifactError(`'${address.pathname}' cannot be fetched: status ${response.status}`);
  return response.arrayBuffer();
}
