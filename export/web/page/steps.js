/** Where along the slider which mode is chosen. */

import { html } from "./dom.js";

const LETTER = 7; // width of one, in pixels

/**
 * Segments of the routing table between two Es/N0, as wide as they are.
 *
 * @param {import("../link/bundle.js").Bundle} bundle
 * @param {[number, number]} rangeDb
 * @param {number} pixels width of all; a name is written where it has room
 */
export function stepSegments({ manifest, modes }, [low, high], pixels) {
  const { thresholds_db: thresholds, modes: chosen } = manifest.routing.table;
  const edges = [low, ...thresholds, high].map((edge) => Math.min(Math.max(edge, low), high));
  return chosen.map((mode, step) => {
    const width = (edges[step + 1] - edges[step]) / (high - low);
    const title = `${modes[mode].name} from ${edges[step]} to ${edges[step + 1]} dB`;
    const { name } = modes[mode];
    const segment = html("span", { title, textContent: width * pixels > name.length * LETTER ? name : "" });
    segment.style.flex = `${width} 1 0`;
    segment.hidden = width <= 0;
    return segment;
  });
}
