/**
 * Call functions of the JavaScript link for a test in Python: a JSON object of tasks on stdin, results on
 * stdout.
 *
 * Each task is a list of argument lists; the result is a list of what each call gives.
 */

import { text } from "node:stream/consumers";

import {
  chooseMode,
  Generator,
  Header,
  Hysteresis,
  llrExact,
  qam,
  readTensor,
  sha256,
} from "../../export/web/link/index.js";
import { withoutDefault } from "../../export/web/link/protobuf.js";
import { checkUnits } from "../../export/web/link/runtime.js";
import { featuresOf } from "../../export/web/page/ink.js";
import { probabilities } from "../../export/web/page/reception.js";
import { wilson } from "../../export/web/page/tally.js";

const decoded = (base64) => new Uint8Array(Buffer.from(base64, "base64"));
const plain = (values) => Array.from(values);

const TASKS = {
  qam(order) {
    const { re, im, axisLevels, axisLabels } = qam(order);
    return { re: plain(re), im: plain(im), levels: plain(axisLevels), labels: axisLabels.map(plain) };
  },
  llr: (re, im, order, noiseVar, gain, clip) => plain(llrExact({ re, im }, qam(order), noiseVar, gain, clip)),
  choose: (table, snrDb) => snrDb.map((value) => chooseMode(table, value)),
  hold(table, hysteresisDb, snrDb) {
    const held = new Hysteresis(table, hysteresisDb);
    return snrDb.map((value) => held.hold(value));
  },
  header(steps, modesCount, snrDb, llr) {
    const header = new Header(steps, modesCount);
    const modes = Array.from({ length: modesCount }, (_, mode) => plain(header.encode(mode, snrDb)));
    return {
      symbols: modes,
      count: header.symbolCount(snrDb),
      decoded: llr.map((row) => header.decode(row, snrDb)),
    };
  },
  sha256: (...parts) => sha256(parts.map(decoded)),
  tensor(base64) {
    const { data, ...rest } = readTensor(decoded(base64));
    return { ...rest, data: Array.from(data, Number) };
  },
  withoutDefault: (base64, name) => Buffer.from(withoutDefault(decoded(base64), name)).toString("base64"),
  noise(seed, count) {
    const { re, im } = new Generator(seed).complexNormal(count);
    return { re: plain(re), im: plain(im) };
  },
  features(strokes) {
    const features = featuresOf(strokes);
    return features && plain(features);
  },
  units: (values, dtype, isBytes) => checkUnits(isBytes ? Uint8Array.from(values) : values, dtype) ?? true,
  wilson: (right, total) => wilson(right, total),
  probabilities: (logits) => probabilities(logits),
};

/** What a call gives, or the error that it raises. */
function outcome(task, values) {
  try {
    return { value: task(...values) };
  } catch (error) {
    if (error.name !== "InputError" && error.name !== "ArtifactError") throw error;
    return { error: error.message };
  }
}

const tasks = JSON.parse(await text(process.stdin));
const results = Object.entries(tasks).map(([name, calls]) => [
  name,
  calls.map((call) => outcome(TASKS[name], call)),
]);
console.log(JSON.stringify(Object.fromEntries(results)));
