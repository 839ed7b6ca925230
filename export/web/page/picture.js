/** What a sample looks like: a picture if it is one, else its features as bars. */

import { drawing, html, svg } from "./dom.js";

/** Whether a link's input is the UCI set's picture of a digit, which can be drawn. */
export function isDigitPicture({ inputSize, manifest }) {
  return inputSize === 64 && manifest.classes.join("") === "0123456789";
}

/** Pixels of a square picture, 0..16, or bars. */
export function pictureOf(features, isPicture) {
  return isPicture ? pixels(features) : bars(features);
}

function pixels(features) {
  const side = Math.sqrt(features.length);
  const cells = Array.from(features, (value, place) =>
    svg("rect", { x: place % side, y: Math.floor(place / side), width: 1, height: 1, opacity: value / 16 }),
  );
  const picture = drawing(side, side, "the sample as the transmitter sees it", ...cells);
  picture.setAttribute("class", "pixels");
  picture.setAttribute("shape-rendering", "crispEdges");
  return picture;
}

function bars(features) {
  const largest = features.reduce((left, right) => Math.max(left, Math.abs(right)), 1e-9);
  const width = 60 / features.length;
  const columns = Array.from(features, (value, place) => {
    const height = (Math.abs(value) / largest) * 20;
    return svg("rect", { x: place * width, y: value < 0 ? 20 : 20 - height, width: width * 0.8, height });
  });
  const picture = drawing(60, 40, `the sample's ${features.length} features`, ...columns);
  picture.setAttribute("class", "features");
  return picture;
}

/**
 * Buttons that show samples.
 *
 * @param {{place: number, features: Float32Array, name: string}[]} samples
 * @param {boolean} isPicture
 * @param {(place: number) => void} pick
 */
export function thumbnails(samples, isPicture, pick) {
  return samples.map(({ place, features, name }) => {
    const title = `test sample ${place}, class ${name}`;
    const button = html(
      "button",
      { type: "button", title, onclick: () => pick(place) },
      pictureOf(features, isPicture),
    );
    button.dataset.place = place;
    button.setAttribute("aria-label", title);
    return button;
  });
}
