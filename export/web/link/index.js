/** The link of a bundle in JavaScript: everything that Node and the page share. */

export { Bundle } from "./bundle.js";
export { judged, replay, symbolStream } from "./conformance.js";
export { LLR_CLIP, llrExact } from "./demap.js";
export { ArtifactError, InputError } from "./errors.js";
export { framed, frameWidth, demodulated, throughNoise } from "./frame.js";
export { Header } from "./header.js";
export { readTensor } from "./protobuf.js";
export { bitsOf, qam } from "./qam.js";
export { Generator } from "./random.js";
export { chooseMode, Hysteresis, noiseVariance } from "./routing.js";
export { Graph, largest, MODE_REQUEST, Receiver, Transmitter } from "./runtime.js";
export { sha256 } from "./sha256.js";
