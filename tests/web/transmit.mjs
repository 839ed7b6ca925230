/**
 * Send and receive with the JavaScript link for a test in Python.
 *
 *   node transmit.mjs BUNDLE RUNTIME < {"features": [...], "snr_db": [...], "mode": null | [...], "llr":
 *   [...], "llr_mode": [...]}
 */

import { text } from "node:stream/consumers";

import { loadRuntime, openFolder, Receiver, Transmitter } from "../../export/web/node/link.mjs";

const [folder, runtime] = process.argv.slice(2);
const task = JSON.parse(await text(process.stdin));
const bundle = await openFolder(folder);
const ort = await loadRuntime(runtime);
const sent = await (await Transmitter.load(ort, bundle)).send(task.features.flat(), task.snr_db, task.mode);
const received = await (await Receiver.load(ort, bundle)).receive(task.llr.flat(), task.llr_mode);
const rows = Array.from({ length: sent.length }, (_, sample) => {
  const { mode, indices, bits, symbols, header } = sent.row(sample);
  const lists = { indices, bits, symbols, header };
  return {
    mode,
    ...Object.fromEntries(Object.entries(lists).map(([name, values]) => [name, Array.from(values)])),
  };
});
console.log(
  JSON.stringify({ sent: rows, classes: Array.from(received.classes), logits: Array.from(received.logits) }),
);
