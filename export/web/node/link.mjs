/**
 * A bundle on Node: files from disk, ONNX Runtime as native library (`node`) or WebAssembly (`wasm`).
 *
 * The link itself (QAM, LLRs, routing, headers) is the code that the browser page runs,
 * `export/web/link/`; a bundle exported with `--web` has it in `web/link/`.
 *
 *   const bundle = await openFolder("runs/digits/bundle");
 *   const ort = await loadRuntime("node");
 *   const transmitter = await Transmitter.load(ort, bundle);
 *   const sent = (await transmitter.send(features, 10)).row(0);   // mode, indices, bits, symbols
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { Bundle } from "../link/bundle.js";
import { ArtifactError, InputError } from "../link/errors.js";

export * from "../link/index.js";

/** What `--runtime` may name. */
export const RUNTIMES = ["node", "wasm"];

/**
 * ONNX Runtime.
 *
 * @param {"node" | "wasm"} name onnxruntime-node, or onnxruntime-web on one thread of WebAssembly
 */
export async function loadRuntime(name) {
  if (!RUNTIMES.includes(name))
    throw new InputError(`'runtime' must be one of ${RUNTIMES.join(", ")}, not '${name}'`);
  const ort =
    name === "node" ? (await import("onnxruntime-node")).default : await import("onnxruntime-web/wasm");
  if (name === "wasm") ort.env.wasm.numThreads = 1;
  return ort;
}

/**
 * Open a bundle's folder; every file that is used is checked against its hash.
 *
 * @param {string} folder
 */
export function openFolder(folder) {
  return Bundle.open(async (name) => {
    try {
      return new Uint8Array(await readFile(join(folder, name)));
    } catch (error) {
      throw new ArtifactError(`'${join(folder, name)}' cannot be read: ${error.code ?? error.message}`);
    }
  });
}
