/**
 * As much of protobuf's wire format as ONNX's tensors and a graph's initializers need.
 *
 * Field numbers are those of onnx.proto: TensorProto dims 1, data_type 2, name 8, raw_data 9; ModelProto
 * graph 7; GraphProto initializer 5.
 */

import { ArtifactError } from "./errors.js";

const text = new TextDecoder();

/** Reads raw_data of each data_type: [name for ONNX Runtime, bytes per element, typed array]. */
const TYPES = {
  1: ["float32", 4, Float32Array],
  2: ["uint8", 1, Uint8Array],
  3: ["int8", 1, Int8Array],
  6: ["int32", 4, Int32Array],
  7: ["int64", 8, BigInt64Array],
};

/**
 * The fields of a message, in order.
 *
 * @param {Uint8Array} bytes
 * @yields {{field: number, value: number | Uint8Array, start: number, end: number}} `start` to `end` is the
 *   whole field with its tag
 */
export function* fieldsOf(bytes) {
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (position >= bytes.length) throw new ArtifactError("a protobuf message is truncated");
      const byte = bytes[position];
      position += 1;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  const block = (length) => {
    if (position + length > bytes.length) throw new ArtifactError("a protobuf message is truncated");
    position += length;
    return bytes.subarray(position - length, position);
  };
  while (position < bytes.length) {
    const start = position;
    const tag = varint();
    const wire = tag % 8;
    let value;
    if (wire === 0) value = varint();
    else if (wire === 1) value = block(8);
    else if (wire === 2) value = block(varint());
    else if (wire === 5) value = block(4);
    else throw new ArtifactError(`a protobuf field of wire type ${wire} cannot be read`);
    yield { field: Math.floor(tag / 8), value, start, end: position };
  }
}

/**
 * A TensorProto with its values in raw_data.
 *
 * @param {Uint8Array} bytes
 * @returns {{name: string, type: string, dims: number[], data: ArrayLike<number> | BigInt64Array}}
 */
export function readTensor(bytes) {
  const dims = [];
  let [name, dataType, raw] = ["", 0, new Uint8Array(0)];
  for (const { field, value } of fieldsOf(bytes)) {
    if (field === 1) dims.push(...(typeof value === "number" ? [value] : packed(value)));
    else if (field === 2) dataType = value;
    else if (field === 8) name = text.decode(value);
    else if (field === 9) raw = value;
  }
  if (!(dataType in TYPES))
    throw new ArtifactError(`tensor '${name}' has data type ${dataType}, which is not read`);
  const [type, width, ArrayType] = TYPES[dataType];
  const size = dims.reduce((product, dim) => product * dim, 1);
  if (raw.length !== size * width) {
    throw new ArtifactError(
      `tensor '${name}' must have ${size * width} bytes of raw data, not ${raw.length}`,
    );
  }
  return { name, type, dims, data: new ArrayType(raw.slice().buffer) };
}

function* packed(bytes) {
  // A packed field is varints without tags: read each as a field of one.
  let value = 0;
  let scale = 1;
  for (const byte of bytes) {
    value += (byte & 127) * scale;
    scale *= 128;
    if (byte < 128) {
      yield value;
      [value, scale] = [0, 1];
    }
  }
}

/**
 * A model whose input has no default any more.
 *
 * ONNX Runtime for JavaScript feeds only inputs without a default: onnxruntime-web refuses any other and
 * onnxruntime-node drops it without a word.  An input loses its default with the initializer of its name.
 *
 * @param {Uint8Array} model ModelProto
 * @param {string} name of an input
 * @returns {Uint8Array} the same bytes if the input has no default
 */
export function withoutDefault(model, name) {
  return rewritten(model, 7, (graph) => {
    const kept = [...fieldsOf(graph)].filter(({ field, value }) => field !== 5 || nameOf(value) !== name);
    return joined(kept.map(({ start, end }) => graph.subarray(start, end)));
  });
}

function nameOf(tensor) {
  for (const { field, value } of fieldsOf(tensor)) if (field === 8) return text.decode(value);
  return "";
}

/** The message with the content of one length-delimited field replaced. */
function rewritten(message, wanted, change) {
  const parts = [...fieldsOf(message)].map(({ field, value, start, end }) => {
    if (field !== wanted) return message.subarray(start, end);
    const content = change(value);
    return joined([Uint8Array.from([wanted * 8 + 2, ...varintBytes(content.length)]), content]);
  });
  return joined(parts);
}

function varintBytes(value) {
  const bytes = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) + 128);
  }
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of parts) {
    whole.set(part, position);
    position += part.length;
  }
  return whole;
}
