/** Seeded Gaussian noise: xoshiro128** (Blackman and Vigna, 2018) and the Box-Muller transform. */

export class Generator {
  #state;
  #spare = null;

  /** @param {number} seed whole number; equal seeds give equal noise */
  constructor(seed) {
    let x = seed | 0;
    this.#state = Uint32Array.from({ length: 4 }, () => {
      x = (x + 0x9e3779b9) | 0; // splitmix32 spreads the seed
      let z = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return z ^ (z >>> 15);
    });
  }

  /** Uniform number above 0 and below 1. */
  uniform() {
    const s = this.#state;
    const scrambled = Math.imul(s[1], 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return (result + 0.5) / 2 ** 32;
  }

  /** Number of a Gaussian of mean 0 and variance 1. */
  normal() {
    if (this.#spare !== null) {
      const spare = this.#spare;
      this.#spare = null;
      return spare;
    }
    const radius = Math.sqrt(-2 * Math.log(this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Complex noise of total variance 1, n values. */
  complexNormal(n) {
    const draw = () => Float64Array.from({ length: n }, () => this.normal() * Math.SQRT1_2);
    return { re: draw(), im: draw() };
  }
}
