/** Run a bundle's graph on many inputs and count where the outputs differ from those of another runtime. */

import { readFile } from "node:fs/promises";

import { command, table, whole } from "./command.mjs";
import { ArtifactError, Graph, judged, loadRuntime, openFolder, sha256, symbolStream } from "./link.mjs";
import { readNpz } from "./npz.mjs";

const USAGE = `usage: node compare.mjs BUNDLE FILE.npz [--runtime node|wasm] [--batch 512] [--json]

FILE.npz holds a graph's inputs and the outputs expected of it, by name, one row per sample: 'input', 'snr_db'
and, if wanted, 'mode_request' for tx.onnx; 'llr' and 'mode' for rx.onnx.  Outputs that are not in the file are
not compared.  The exit status is 0 if nothing differs and 1 otherwise.`;

const INPUTS = { "tx.onnx": ["input", "snr_db", "mode_request"], "rx.onnx": ["llr", "mode"] };

/** Rows of an array. */
function rows({ name, type, dims, data }, start, stop) {
  const width = data.length / dims[0];
  const part = data.slice(start * width, stop * width);
  return { name, type, dims: [Math.min(stop, dims[0]) - start, ...dims.slice(1)], data: part };
}

async function readArrays(file) {
  try {
    return readNpz(new Uint8Array(await readFile(file)));
  } catch (error) {
    if (error.code) throw new ArtifactError(`'${file}' cannot be read: ${error.code}`);
    throw error;
  }
}

const OPTIONS = { batch: { type: "string", default: "512" }, json: { type: "boolean" } };

await command(USAGE, OPTIONS, 2, async ({ runtime, batch, json }, [folder, file]) => {
  const step = whole("batch", batch, 1);
  const ort = await loadRuntime(runtime);
  const bundle = await openFolder(folder);
  const arrays = await readArrays(file);
  const graph = "llr" in arrays ? "rx.onnx" : "tx.onnx";
  const loaded = await Graph.load(ort, bundle, graph);
  const missing = loaded.inputNames.filter((name) => !(name in arrays) && name !== "mode_request");
  if (missing.length) throw new ArtifactError(`'${file}' lacks ${missing.join(", ")} of '${graph}'`);
  const outputs = Object.values(arrays).filter(({ name }) => loaded.outputNames.includes(name));
  const compared = outputs.filter(({ name }) => !INPUTS[graph].includes(name));
  if (!compared.length) throw new ArtifactError(`'${file}' has no output of '${graph}'`);

  const samples = arrays[loaded.inputNames[0]].dims[0];
  const result = { runtime, graph, samples, batch: step, differing: {}, differing_samples: 0, error: 0 };
  const streams = [];
  for (let start = 0; start < samples; start += step) {
    const size = Math.min(step, samples - start);
    const feeds = Object.fromEntries(
      loaded.inputNames.map((name) => {
        const { type, data, dims } = arrays[name]
          ? rows(arrays[name], start, start + size)
          : { type: "int64", data: BigInt64Array.from([-1n]), dims: [1] };
        return [name, new ort.Tensor(type, data, dims)];
      }),
    );
    const actual = await loaded.run(feeds);
    const expected = compared.map((array) => rows(array, start, start + size));
    const found = judged(expected, actual);
    for (const [name, count] of Object.entries(found.differing)) {
      result.differing[name] = (result.differing[name] ?? 0) + count;
    }
    result.differing_samples += found.differingSamples;
    result.error = Math.max(result.error, found.error);
    if (graph === "tx.onnx") streams.push(symbolStream(actual));
  }
  if (graph === "tx.onnx") result.symbols_sha256 = sha256(streams);
  const passed = Object.values(result.differing).every((count) => count === 0);
  if (json) {
    console.log(JSON.stringify({ ...result, passed }));
  } else {
    const sizes = Object.fromEntries(compared.map(({ name, data }) => [name, data.length]));
    const lines = Object.entries(result.differing).map(([name, count]) => [
      name,
      sizes[name] ?? samples,
      count,
    ]);
    table([["output", "compared", "differ"], ...lines]);
    console.log(
      `${result.differing_samples} of ${samples} samples differ; ${graph} on ${runtime}, batches of ${step}`,
    );
    if (graph === "rx.onnx") console.log(`largest error of a real output: ${result.error.toExponential(1)}`);
    else console.log(`symbols' SHA-256: ${result.symbols_sha256}`);
  }
  return passed ? 0 : 1;
});
