/** The result of replaying the conformance vectors, as a table. */

import { html } from "./dom.js";

/** @param {Awaited<ReturnType<typeof import("../link/conformance.js").replay>>} result */
export function checkTable({ sets, sha256, expectedSha256, passed }) {
  const isGolden = sha256 === expectedSha256;
  const cells = (tag, texts) => html("tr", {}, ...texts.map((text) => html(tag, {}, text)));
  const rows = sets.map(({ folder, graph, samples, description, differing, passed: isSame }) => {
    const wrong = Object.entries(differing).filter(([, count]) => count > 0);
    const verdict = isSame
      ? "reproduced"
      : wrong.map(([name, count]) => `${count} ${name} differ`).join(", ");
    const row = cells("td", [folder, graph, String(samples), description, verdict]);
    row.lastChild.className = isSame ? "right" : "wrong";
    return row;
  });
  const head = html("thead", {}, cells("th", ["set", "graph", "samples", "inputs", "result"]));
  const table = html("table", {}, head, html("tbody", {}, ...rows));
  const verdict = passed ? "Everything is reproduced." : "This browser does not reproduce the bundle.";
  return [
    html("div", { className: "scroll" }, table),
    html("p", { className: "hash" }, `SHA-256 of all symbols: ${sha256} ${isGolden ? "(equal)" : ""}`),
    ...(isGolden ? [] : [html("p", { className: "hash wrong" }, `expected: ${expectedSha256}`)]),
    html("p", { className: passed ? "right" : "wrong" }, html("b", {}, verdict)),
  ];
}
