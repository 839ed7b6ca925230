/** The page: what the user sets, what follows from it, and where it is shown. */

import { checkTable } from "./check.js";
import { constellationDrawing } from "./constellation.js";
import { byId, counted, decimal } from "./dom.js";
import { featuresOf } from "./ink.js";
import { loadLink } from "./load.js";
import { Pad } from "./pad.js";
import { isDigitPicture, pictureOf, thumbnails } from "./picture.js";
import { llrBars, scoreRows } from "./reception.js";
import { Sending } from "./sending.js";
import { stepSegments } from "./steps.js";
import { bitGroups, decodedIndices, tokenColumns } from "./tokens.js";
import { transfer } from "./transfer.js";
import { frameWidth, Generator } from "../link/index.js";

const THUMBNAILS = 12;
const MANY_TOKENS = 16; // from here on they are drawn smaller

class Page {
  /** @param {import("./load.js").Link} link */
  constructor(link) {
    this.link = link;
    this.isPicture = isDigitPicture(link.bundle);
    // ?seed=7 in the address gives the same noise each time.
    const seed = new URLSearchParams(location.search).get("seed");
    this.generator = new Generator(
      seed === null ? crypto.getRandomValues(new Int32Array(1))[0] : Number(seed),
    );
    this.noise = this.generator.complexNormal(frameWidth(link.bundle));
    this.snrDb = Number(byId("snr").value);
    this.rangeDb = [Number(byId("snr").min), Number(byId("snr").max)];
    this.request = null;
    this.features = null;
    this.label = null;
    this.sending = new Sending(link, this.generator, this.rangeDb);
    this.isStale = false;
    this.updating = null;
  }

  start() {
    this.describe();
    this.listen();
    this.pick(0);
    this.offerOthers();
  }

  describe() {
    const { manifest, modes } = this.link.bundle;
    const arithmetic = manifest.grid ? "codewords found on an integer grid" : "codewords found in float32";
    byId("about").textContent =
      `Task ${manifest.task}, ${counted(modes.length, "mode")}, router "${manifest.routing.router}", ` +
      `${manifest.precision} weights, ${arithmetic}.`;
    byId("provenance").textContent =
      "The SNR is known to both ends; each mode's points are scaled to unit average energy; " +
      "the noise is white and Gaussian.";
    byId("header-key").hidden = !this.link.bundle.header.isSent;
    byId("pad-figure").hidden = !this.isPicture;
    byId("steps").hidden = modes.length === 1;
    byId("steps-note").hidden = manifest.routing.router !== "content";
    this.layOut();
    const names = modes.map(({ name }, number) => new Option(name, String(number)));
    byId("request").replaceChildren(new Option("by the router", ""), ...names);
    byId("request").disabled = modes.length === 1;
    byId("sample").max = String(this.link.samples.count - 1);
    byId("check").disabled = manifest.conformance === null;
  }

  /** Draw what depends on the width of the page. */
  layOut() {
    const width = byId("steps").clientWidth;
    byId("steps").replaceChildren(...stepSegments(this.link.bundle, this.rangeDb, width));
  }

  listen() {
    const click = (id, action) => byId(id).addEventListener("click", action);
    byId("snr").addEventListener("input", () => {
      this.snrDb = Number(byId("snr").value);
      this.changed();
    });
    byId("request").addEventListener("change", () => {
      const { value } = byId("request");
      this.request = value === "" ? null : Number(value);
      this.changed();
    });
    addEventListener("resize", () => {
      this.layOut();
      this.changed();
    });
    byId("sample").addEventListener("change", () => this.pick(Math.round(Number(byId("sample").value)) || 0));
    click("previous", () => this.pick(this.place - 1));
    click("next", () => this.pick(this.place + 1));
    click("others", () => this.offerOthers());
    click("noise", () => {
      this.noise = this.generator.complexNormal(frameWidth(this.link.bundle));
      this.changed();
    });
    click("run", () => this.sending.toggle().catch(fail));
    click("reset", () => this.sending.reset());
    click("check", () => this.check());
    this.pad = new Pad(byId("pad"), (strokes) => this.take(featuresOf(strokes), null));
    click("clear", () => this.pick(this.place));
  }

  /** Take a test sample, counted round at the ends. */
  pick(place) {
    const { count, label, features } = this.link.samples;
    this.place = ((place % count) + count) % count;
    byId("sample").value = String(this.place);
    this.pad.clear();
    this.take(features(this.place), label[this.place]);
  }

  take(features, label) {
    this.features = features;
    this.label = label;
    byId("features").replaceChildren(pictureOf(features, this.isPicture));
    const name =
      label === null
        ? "your drawing"
        : `sample ${this.place}, class ${this.link.bundle.manifest.classes[label]}`;
    byId("features-caption").textContent = name;
    this.markThumbnail();
    this.changed();
  }

  offerOthers() {
    const { count, label, features } = this.link.samples;
    const places = new Set([this.place]);
    while (places.size < Math.min(THUMBNAILS, count))
      places.add(Math.floor(this.generator.uniform() * count));
    const { classes } = this.link.bundle.manifest;
    const offered = [...places].map((place) => ({
      place,
      features: features(place),
      name: classes[label[place]],
    }));
    byId("thumbnails").replaceChildren(...thumbnails(offered, this.isPicture, (place) => this.pick(place)));
    this.markThumbnail();
  }

  markThumbnail() {
    for (const button of byId("thumbnails").children) {
      const isShown = this.label !== null && Number(button.dataset.place) === this.place;
      button.setAttribute("aria-pressed", String(isShown));
    }
  }

  /** Send again with what is set now; changes that come meanwhile are taken together. */
  changed() {
    this.isStale = true;
    this.updating ??= this.update().finally(() => {
      this.updating = null;
    });
    this.sending.set(this.snrDb, this.request);
  }

  async update() {
    try {
      while (this.isStale) {
        this.isStale = false;
        const { link, features, label, snrDb, request, noise } = this;
        this.show(await transfer(link, features, snrDb, request, noise), snrDb, label);
      }
    } catch (error) {
      fail(error);
    }
  }

  show(result, snrDb, label) {
    const { bundle } = this.link;
    const { classes, llr_clip: bound } = bundle.manifest;
    const { sent, believed } = result;
    const mode = bundle.modes[sent.mode];
    const isUnderstood = believed === sent.mode;
    byId("snr-value").textContent = `${decimal(snrDb)} dB`;
    byId("mode").textContent = mode.name;
    byId("symbols").textContent = String(sent.header.length + mode.symbols);
    byId("sent-fact").hidden = label === null;
    byId("sent-class").textContent = label === null ? "" : classes[label];
    byId("decided").textContent = classes[result.decided];
    const verdict = label === null ? "" : result.decided === label ? "right" : "wrong";
    byId("decided").className = verdict;
    byId("decided-label").textContent = verdict ? `decided: ${verdict}` : "decided";
    this.markStep(sent.mode);

    byId("tx-summary").textContent =
      `${counted(mode.tokens, "token")} of ${mode.codebookSize} codewords: ` +
      `${mode.informationBits} information bits in ${counted(mode.symbols, "symbol")}.`;
    byId("tokens").replaceChildren(...tokenColumns(bundle, sent));
    byId("tokens").classList.toggle("many", mode.tokens > MANY_TOKENS);
    byId("bits").replaceChildren(...bitGroups(mode, sent.bits));
    byId("points").textContent = sent.symbols.join(" ");

    const header = sent.header.length
      ? ` after a header of ${counted(sent.header.length, "QPSK symbol")}`
      : "";
    byId("channel-summary").textContent =
      `${counted(mode.symbols, "symbol")} of ${modulation(mode.order)}${header}; ` +
      `noise variance N0 = ${result.noiseVar.toPrecision(3)}.`;
    const { payload } = result;
    byId("constellation").replaceChildren(
      constellationDrawing(result.constellation, payload.sent, payload.received, result.header),
    );

    const taken = bundle.modes[believed];
    byId("rx-summary").textContent = isUnderstood
      ? `It takes the mode for ${taken.name}, as sent.`
      : `It takes the mode for ${taken.name}, which is wrong.`;
    byId("rx-summary").className = isUnderstood ? "summary" : "summary wrong";
    byId("llr").replaceChildren(
      llrBars(result.llr, isUnderstood ? sent.bits : null, bound, byId("llr").clientWidth),
    );
    byId("decoded").replaceChildren(...decodedIndices(result.indices, isUnderstood ? sent.indices : null));
    byId("scores").replaceChildren(...scoreRows(classes, result.logits, result.decided));
  }

  markStep(mode) {
    const { routing } = this.link.bundle.manifest;
    [...byId("steps").children].forEach((segment, step) => {
      const starts = routing.table.thresholds_db[step - 1] ?? -Infinity;
      const ends = routing.table.thresholds_db[step] ?? Infinity;
      const isHere = routing.table.modes[step] === mode && this.snrDb >= starts && this.snrDb < ends;
      segment.classList.toggle("current", isHere);
    });
  }

  async check() {
    byId("check").disabled = true;
    byId("check-result").textContent = "Replaying ...";
    try {
      byId("check-result").replaceChildren(...checkTable(await this.link.conformance()));
    } catch (error) {
      fail(error);
    }
    byId("check").disabled = false;
  }
}

const modulation = (order) => (order === 4 ? "QPSK" : `${order}-QAM`);

function fail(error) {
  byId("notice").hidden = false;
  byId("notice").className = "notice error";
  byId("notice").textContent = `${error.name}: ${error.message}`;
  if (error.name !== "ArtifactError") throw error;
}

try {
  byId("notice").textContent = "Loading the link and ONNX Runtime (14 MB) ...";
  const link = await loadLink();
  window.linkConformance = link.conformance;
  byId("notice").hidden = true;
  byId("page").hidden = false;
  const page = new Page(link);
  page.start();
  window.linkSettled = () => page.updating;
  document.documentElement.dataset.state = "ready";
} catch (error) {
  fail(error);
}
