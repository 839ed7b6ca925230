/** Reader of NumPy's .npz: a zip archive of .npy arrays, stored or deflated. */

import { inflateRawSync } from "node:zlib";

import { ArtifactError } from "./link.mjs";

const END = 0x06054b50;
const ENTRY = 0x02014b50;

const TYPES = {
  "<f4": ["float32", Float32Array],
  "<i8": ["int64", BigInt64Array],
  "|u1": ["uint8", Uint8Array],
};

/**
 * Arrays of numbers by name; arrays of names are left out.
 *
 * @param {Uint8Array} bytes of the archive
 * @returns {Record<string, {name: string, type: string, dims: number[], data: ArrayLike<number> |
 *   BigInt64Array}>}
 */
export function readNpz(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== END) end -= 1;
  if (end < 0) throw new ArtifactError("an .npz file is truncated: it has no directory");
  const arrays = {};
  let position = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left -= 1) {
    if (view.getUint32(position, true) !== ENTRY)
      throw new ArtifactError("the directory of an .npz file is damaged");
    const [method, packed] = [view.getUint16(position + 10, true), view.getUint32(position + 20, true)];
    const lengths = [28, 30, 32].map((offset) => view.getUint16(position + offset, true));
    const file = new TextDecoder().decode(bytes.subarray(position + 46, position + 46 + lengths[0]));
    const local = view.getUint32(position + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const content = bytes.subarray(start, start + packed);
    const name = file.replace(/\.npy$/, "");
    const array = readNpy(method === 8 ? new Uint8Array(inflateRawSync(content)) : content, name);
    if (array) arrays[name] = array;
    position += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  return arrays;
}

function readNpy(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const long = bytes[6] > 1; // from version 2 on the header's length has four bytes
  const start = long ? 12 + view.getUint32(8, true) : 10 + view.getUint16(8, true);
  const header = new TextDecoder().decode(bytes.subarray(long ? 12 : 10, start));
  const descr = /'descr': '([^']+)'/.exec(header)?.[1];
  if (/^<U[0-9]+$/.test(descr)) return null; // names, of which nothing here has need
  const shape = /'shape': \(([^)]*)\)/.exec(header)?.[1];
  if (!(descr in TYPES) || shape === undefined || /'fortran_order': True/.test(header)) {
    throw new ArtifactError(
      `array '${name}' must be float32, int64 or uint8 in C order, not ${header.trim()}`,
    );
  }
  const dims = shape
    .split(",")
    .filter((word) => word.trim())
    .map(Number);
  const [type, ArrayType] = TYPES[descr];
  return { name, type, dims, data: new ArrayType(bytes.slice(start).buffer) };
}
