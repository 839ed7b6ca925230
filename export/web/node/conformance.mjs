/** Replay a bundle's conformance vectors: exit status 0 if this runtime reproduces all of them, else 1. */

import { command, table } from "./command.mjs";
import { loadRuntime, openFolder, replay } from "./link.mjs";

const USAGE = `usage: node conformance.mjs BUNDLE [--runtime node|wasm] [--json]

Replay every conformance vector of a bundle in onnxruntime-node (native) or onnxruntime-web (wasm).`;

/** What differed, in words. */
function differences(set) {
  const wrong = Object.entries(set.differing).filter(([, count]) => count > 0);
  return wrong.length ? wrong.map(([name, count]) => `${count} ${name} differ`).join(", ") : "reproduced";
}

await command(USAGE, { json: { type: "boolean" } }, 1, async ({ runtime, json }, [folder]) => {
  const bundle = await openFolder(folder);
  const result = await replay(await loadRuntime(runtime), bundle);
  if (json) {
    console.log(JSON.stringify({ runtime, ...result }));
    return result.passed ? 0 : 1;
  }
  const rows = result.sets.map((set) => [
    set.folder,
    set.graph,
    set.samples,
    set.graph === "rx.onnx" ? set.error.toExponential(1) : "exact",
    set.passed ? "pass" : "FAIL",
    set.passed ? set.description : `${set.description}: ${differences(set)}`,
  ]);
  table([["set", "graph", "samples", "error", "result", "what"], ...rows]);
  const isGolden = result.sha256 === result.expectedSha256;
  console.log(`symbols' SHA-256 ${isGolden ? "equal" : "DIFFERS"}: ${result.sha256}`);
  if (!isGolden) console.log(`              expected: ${result.expectedSha256}`);
  console.log(result.passed ? `PASS on ${runtime}` : `FAIL on ${runtime}`);
  return result.passed ? 0 : 1;
});
