/** A bundle: its manifest, checked, and its files, each checked against its hash. */

import { ArtifactError } from "./errors.js";
import { Header } from "./header.js";
import { sha256 } from "./sha256.js";

const FORMAT = "twophase-link";
const VERSION = 6;

/**
 * @typedef {object} Mode
 * @property {string} name
 * @property {number} codebook which of the codebooks
 * @property {number} codebookSize K
 * @property {number} tokens N, indices per sample
 * @property {number} order M of the constellation
 * @property {number} informationBits N log2 K
 * @property {number} channelBits with padding to whole symbols
 * @property {number} symbols channel uses per sample
 */

/** What `link.json` says, and the files next to it. */
export class Bundle {
  #read;

  constructor(manifest, read) {
    this.#read = read;
    /** The content of `link.json`, as it is. */
    this.manifest = manifest;
    /** @type {Mode[]} */
    this.modes = modesOf(manifest);
    this.header = new Header(manifest.routing.header, this.modes.length);
    const widest = (key) => Math.max(...this.modes.map((mode) => mode[key]));
    this.maxTokens = widest("tokens");
    this.maxBits = widest("channelBits");
    this.maxSymbols = widest("symbols");
    /** Features of one sample. */
    this.inputSize = manifest.input_shape.reduce((product, size) => product * size, 1);
    /** By what each mode's points are divided for unit average energy. */
    this.amplitudes = manifest.symbol_energy.map(Math.sqrt);
  }

  /**
   * Open a bundle.
   *
   * @param {(name: string) => Promise<Uint8Array>} read gives a file by its name relative to the folder
   * @returns {Promise<Bundle>}
   */
  static async open(read) {
    const content = new TextDecoder().decode(await read("link.json"));
    let manifest;
    try {
      manifest = JSON.parse(content);
    } catch (error) {
      throw new ArtifactError(`'link.json' is no JSON: truncated or altered (${error.message})`);
    }
    if (manifest?.format !== FORMAT) throw new ArtifactError(`'link.json' is no manifest of ${FORMAT}`);
    if (manifest.version !== VERSION) {
      throw new ArtifactError(`'link.json' must be of version ${VERSION}, not ${manifest.version}`);
    }
    if (manifest.kind !== "bundle") {
      throw new ArtifactError(`'link.json' must describe a bundle, not a ${manifest.kind}`);
    }
    if (manifest.front) throw new ArtifactError("'link.json' must describe a link that takes features, not text");
    const energies = manifest.symbol_energy;
    if (!Array.isArray(energies) || energies.length !== manifest.modes?.length || !energies.every((one) => one > 0)) {
      throw new ArtifactError("'link.json' must have a 'symbol_energy' above 0 for each mode");
    }
    return new Bundle(manifest, read);
  }

  /**
   * A file that the manifest lists.
   *
   * @param {string} name
   * @returns {Promise<Uint8Array>}
   */
  async file(name) {
    const entry = this.manifest.files[name];
    if (!entry) throw new ArtifactError(`'link.json' does not list '${name}'`);
    const bytes = await this.#read(name);
    if (bytes.length !== entry.bytes) {
      throw new ArtifactError(
        `'${name}' must have ${entry.bytes} bytes, not ${bytes.length}: truncated or altered`,
      );
    }
    if (sha256([bytes]) !== entry.sha256) {
      throw new ArtifactError(`'${name}' is altered: its SHA-256 is not the one in the manifest`);
    }
    return bytes;
  }
}

/** The product codebooks x constellations, codebook-major. */
function modesOf({ link, modes: listed }) {
  const modes = link.codebook_sizes.flatMap((codebookSize, codebook) =>
    link.qam_orders.map((order) => {
      const tokens = link.tokens[codebook];
      const bitsPerSymbol = Math.log2(order);
      const informationBits = tokens * Math.log2(codebookSize);
      const symbols = Math.ceil(informationBits / bitsPerSymbol);
      const channelBits = symbols * bitsPerSymbol;
      return { codebook, codebookSize, tokens, order, informationBits, channelBits, symbols };
    }),
  );
  const agrees = (mode, index) =>
    mode.symbols === listed[index].symbols && mode.channelBits === listed[index].channel_bits;
  if (modes.length !== listed.length || !modes.every(agrees)) {
    throw new ArtifactError(
      "'link.json' is altered: its modes are not those of its codebooks and constellations",
    );
  }
  return modes.map((mode, index) => ({ name: listed[index].name, ...mode }));
}
