/** Tokens, their codewords, and the bits that they become. */

import { html, svg } from "./dom.js";
import { bitsOf } from "../link/qam.js";

/**
 * A column for each token: its index, its codeword (warm: positive, cold: negative) and its label's bits.
 *
 * @param {import("../link/bundle.js").Bundle} bundle
 * @param {{mode: number, indices: Int32Array}} sent
 */
export function tokenColumns({ manifest, modes }, { mode, indices }) {
  const { codebook, codebookSize } = modes[mode];
  const words = manifest.codebooks[codebook];
  const largest = Math.max(...words.flat().map(Math.abs));
  return Array.from(indices, (index) => {
    const bits = bitsOf(manifest.labels[codebook][index], Math.log2(codebookSize)).join("");
    const values = words[index].map((value) => value.toPrecision(3)).join(", ");
    const title = `codeword ${index}: ${values}; label ${bits}`;
    return html(
      "div",
      { className: "token", title },
      `${index}`,
      column(words[index], largest),
      html("small", {}, bits),
    );
  });
}

function column(word, largest) {
  const cells = word.map((value, place) =>
    svg("rect", {
      y: place,
      width: 1,
      height: 1,
      class: value < 0 ? "minus" : "plus",
      opacity: (Math.abs(value) / largest).toFixed(3),
    }),
  );
  return svg(
    "svg",
    { viewBox: `0 0 1 ${word.length}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    ...cells,
  );
}

/** Groups of bits, one for each symbol; the padding of the last is set apart. */
export function bitGroups({ informationBits, channelBits, symbols }, bits) {
  const width = channelBits / symbols;
  return Array.from({ length: symbols }, (_, symbol) => {
    const group = Array.from(bits.slice(symbol * width, (symbol + 1) * width), (bit, place) =>
      symbol * width + place < informationBits
        ? String(bit)
        : html("i", { className: "padding", title: "padding" }, String(bit)),
    );
    return html("span", {}, ...group);
  });
}

/** Indices that were decoded, the wrong ones marked; `sent` is null where the modes differ. */
export function decodedIndices(decoded, sent) {
  return Array.from(decoded, (index, place) => {
    const isWrong = sent !== null && index !== sent[place];
    const properties = isWrong ? { className: "wrong", title: `sent: ${sent[place]}` } : {};
    return html(isWrong ? "b" : "span", properties, `${index} `);
  });
}
