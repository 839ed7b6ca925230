/** Elements, and numbers as text. */

const SVG = "http://www.w3.org/2000/svg";

/** The element of an id of the page. */
export const byId = (id) => document.getElementById(id);

/** An HTML element with properties and children. */
export function html(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** An SVG element with attributes and children. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A drawing that is read out as `label`. */
export function drawing(width, height, label, ...children) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...children);
}

/** A number with a minus that is one. */
export const decimal = (value, digits = 1) => value.toFixed(digits).replace("-", "\u2212");

/** `1 symbol`, `2 symbols`. */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
