/** A canvas to draw on with mouse, pen or finger. */

const PEN = 0.09; // of the pad's width

export class Pad {
  #canvas;
  #changed;
  #strokes = [];

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(strokes: {x: number, y: number}[][]) => void} changed is called after each piece of a stroke
   */
  constructor(canvas, changed) {
    this.#canvas = canvas;
    this.#changed = changed;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#go(event));
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  clear() {
    this.#strokes = [];
    this.#draw();
  }

  #begin(event) {
    event.preventDefault();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#strokes.push([this.#place(event)]);
    this.#report();
  }

  #go(event) {
    if (!this.#canvas.hasPointerCapture(event.pointerId) || !this.#strokes.length) return;
    const parts = event.getCoalescedEvents?.() ?? [];
    this.#strokes.at(-1).push(...(parts.length ? parts : [event]).map((part) => this.#place(part)));
    this.#report();
  }

  /** In units of the pad's width. */
  #place({ clientX, clientY }) {
    const { left, top, width } = this.#canvas.getBoundingClientRect();
    return { x: (clientX - left) / width, y: (clientY - top) / width };
  }

  #report() {
    this.#draw();
    this.#changed(this.#strokes);
  }

  #draw() {
    const canvas = this.#canvas;
    const width = Math.round(canvas.clientWidth * devicePixelRatio);
    if (!width) return;
    canvas.width = width;
    canvas.height = width;
    const context = canvas.getContext("2d");
    context.strokeStyle = getComputedStyle(canvas).color;
    context.lineWidth = PEN * width;
    context.lineCap = "round";
    context.lineJoin = "round";
    for (const stroke of this.#strokes) {
      context.beginPath();
      const [first, ...rest] = stroke.map(({ x, y }) => [x * width, y * width]);
      context.moveTo(...first);
      context.lineTo(...first);
      rest.forEach((point) => context.lineTo(...point));
      context.stroke();
    }
  }
}
