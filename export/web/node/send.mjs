/** Send a bundle's test samples over a simulated AWGN channel and receive them. */

import { command, table, whole } from "./command.mjs";
import {
  framed,
  frameWidth,
  Generator,
  demodulated,
  InputError,
  loadRuntime,
  noiseVariance,
  openFolder,
  Receiver,
  throughNoise,
  Transmitter,
} from "./link.mjs";
import { readNpz } from "./npz.mjs";

const USAGE = `usage: node send.mjs BUNDLE [--snr 10] [--samples 8] [--seed 0] [--runtime node|wasm]

Send all test samples once at an Es/N0 in dB that both ends know, show the first ones, count right decisions.`;

const OPTIONS = {
  snr: { type: "string", default: "10" },
  samples: { type: "string", default: "8" },
  seed: { type: "string", default: "0" },
};

/** The file with the test samples: arrays `input` and `label`. */
const EVAL_FILE = "eval.npz";

await command(USAGE, OPTIONS, 1, async ({ snr, samples, seed, runtime }, [folder]) => {
  const snrDb = Number(snr);
  if (snr.trim() === "" || !Number.isFinite(snrDb))
    throw new InputError(`'--snr' must be a number, not '${snr}'`);
  const shown = whole("samples", samples, 0);
  const generator = new Generator(whole("seed", seed, 0));
  const ort = await loadRuntime(runtime);
  const bundle = await openFolder(folder);
  const transmitter = await Transmitter.load(ort, bundle);
  const receiver = await Receiver.load(ort, bundle);
  const { input, label } = readNpz(await bundle.file(EVAL_FILE));

  const sent = await transmitter.send(input.data, snrDb);
  const noiseVar = noiseVariance(snrDb);
  const llr = new Float32Array(sent.length * bundle.maxBits);
  const believed = new Int32Array(sent.length);
  for (let sample = 0; sample < sent.length; sample += 1) {
    const noise = generator.complexNormal(frameWidth(bundle));
    const received = throughNoise(framed(bundle, sent.row(sample)), noise, noiseVar);
    const reception = demodulated(bundle, received, noiseVar, snrDb);
    believed[sample] = reception.mode;
    llr.set(reception.llr, sample * bundle.maxBits);
  }
  const { classes } = await receiver.receive(llr, believed);

  const names = bundle.manifest.classes;
  const rows = Array.from({ length: Math.min(shown, sent.length) }, (_, sample) => {
    const row = sent.row(sample);
    const { name } = bundle.modes[row.mode];
    return [sample, names[Number(label.data[sample])], name, row.indices.join(" "), names[classes[sample]]];
  });
  if (rows.length) table([["sample", "label", "mode", "indices", "decided"], ...rows]);
  const right = classes.filter((decided, sample) => decided === Number(label.data[sample])).length;
  let symbols = 0;
  for (let sample = 0; sample < sent.length; sample += 1) {
    symbols += sent.symbolCount[sample] + sent.headers[sample].length;
  }
  console.log(
    `Es/N0 ${snrDb} dB, ${runtime}: ${right} of ${sent.length} right, ` +
      `${((100 * right) / sent.length).toFixed(2)} %, ` +
      `${(symbols / sent.length).toFixed(2)} symbols per sample`,
  );
  return 0;
});
