"use strict";
// A packed network in JavaScript: what csrc/bindings/c/onebit.h offers. `engine` is what createOnebit() resolves to.
//
// Structures of the interface as WebAssembly has them: pointers, sizes and integers take 4 bytes each.
//   onebit_description  0 name, 4 method, 8 recipe, 12 task, 16 answer, 20 inputs, 24 outputs, 28 labels, 32 isa
//   onebit_input        0 name, 4 type, 8 shape (4 integers), 24 count, 28 resize, 32 mean, 36 std
//   onebit_output       0 name, 4 shape
//   onebit_values       0 form, 4 data, 8 size, 12 shape
//   onebit_buffer       0 data, 4 size

class OnebitError extends Error {}

const TYPES = ["image", "tokens", "floats"];
const ANSWERS = ["one", "several", "values", "boxes"];
const FORMS = { bytes: 0, channelsFirst: 1, channelsLast: 2, integers: 3 };

class Network {
  // bytes: a Uint8Array, the whole file; isa: "scalar", "simd128" or "": the best.
  constructor(engine, bytes, isa = "") {
    this.engine = engine;
    this.pointer = 0;
    this.scratch((take) => {
      const place = take(4);
      this.call("load_bytes", take(bytes), bytes.length, 1, isa ? take(text(isa)) : 0, place);
      this.pointer = this.integer(place);
    });
    this.scratch((take) => {
      const d = take(40);
      this.call("describe", this.pointer, d);
      const field = (at) => this.integer(d + at);
      this.name = this.string(field(0));
      this.method = this.string(field(4));
      this.task = this.string(field(12));
      this.answers = ANSWERS[field(16)];
      this.isa = this.string(field(32));
      this.inputs = range(field(20)).map((index) => this.input(index));
      this.outputs = range(field(24)).map((index) => this.output(index));
      this.labels = field(28) ? range(field(28)).map((index) => this.label(index)) : null;
    });
  }

  free() {
    this.engine._onebit_free(this.pointer);
    this.pointer = 0;
  }

  // inputs: for each {form: a key of FORMS, data: a typed array}, of the sizes that the network was made for.
  // Returns a Float32Array for each output.
  run(inputs, batch = 1) {
    return this.scratch((take) => {
      const values = take(28 * inputs.length);
      inputs.forEach(({ form, data }, i) => {
        this.set(values + 28 * i, [FORMS[form], take(data), data.length, 0, 0, 0, 0]);
      });
      const buffers = take(8 * this.outputs.length);
      const places = this.outputs.map(({ shape }, i) => {
        const size = batch * shape.height * shape.width * shape.channels;
        const place = take(4 * size);
        this.set(buffers + 8 * i, [place, size]);
        return [place, size];
      });
      this.call("run", this.pointer, values, inputs.length, batch, buffers, this.outputs.length);
      return places.map(([place, size]) => new Float32Array(this.engine.HEAPU8.slice(place, place + 4 * size).buffer));
    });
  }

  // The best labels of one sample's first output: [{label, score}, ...], the best first.
  answer(values, top) {
    const count = Math.min(top, values.length);
    return this.scratch((take) => {
      const indices = take(4 * count);
      const scores = take(4 * count);
      this.call("answer", this.pointer, take(values), values.length, count, indices, scores);
      return range(count).map((i) => {
        const index = this.integer(indices + 4 * i);
        return { label: this.labels ? this.labels[index] : String(index), score: this.view().getFloat32(scores + 4 * i, true) };
      });
    });
  }

  input(index) {
    return this.scratch((take) => {
      const p = take(40);
      this.call("describe_input", this.pointer, index, p);
      const [type, count, resize] = [4, 24, 28].map((at) => this.integer(p + at));
      return { name: this.string(this.integer(p)), type: TYPES[type], shape: this.shape(p + 8), count, resize };
    });
  }

  output(index) {
    return this.scratch((take) => {
      const p = take(20);
      this.call("describe_output", this.pointer, index, p);
      return { name: this.string(this.integer(p)), shape: this.shape(p + 4) };
    });
  }

  label(index) {
    return this.scratch((take) => {
      const p = take(4);
      this.call("label", this.pointer, index, p);
      return this.string(this.integer(p));
    });
  }

  shape(p) {
    const [height, width, channels, vector] = range(4).map((i) => this.integer(p + 4 * i));
    return { height, width, channels, vector };
  }

  call(name, ...given) {
    if (this.engine[`_onebit_${name}`](...given)) throw new OnebitError(this.string(this.engine._onebit_failure()));
  }

  // work(take), where take(size) is memory of so many bytes and take(array) a copy of it, until work returns.
  scratch(work) {
    const taken = [];
    const take = (wanted) => {
      const array = typeof wanted === "number" ? null : new Uint8Array(wanted.buffer, wanted.byteOffset, wanted.byteLength);
      const place = this.engine._malloc(Math.max(1, array ? array.length : wanted));
      if (!place) throw new OnebitError("there is not enough memory");
      taken.push(place);
      if (array) this.engine.HEAPU8.set(array, place);
      return place;
    };
    try {
      return work(take);
    } finally {
      taken.forEach((place) => this.engine._free(place));
    }
  }

  // Memory moves when it grows: a view is good until the next call.
  view() {
    return new DataView(this.engine.HEAPU8.buffer);
  }

  integer(p) {
    return this.view().getInt32(p, true);
  }

  set(p, integers) {
    integers.forEach((value, i) => this.view().setInt32(p + 4 * i, value, true));
  }

  string(p) {
    return this.engine.UTF8ToString(p);
  }
}

function text(string) {
  return new TextEncoder().encode(`${string}\0`);
}

function range(count) {
  return Array.from({ length: count }, (_, i) => i);
}

if (typeof module !== "undefined") module.exports = { Network, OnebitError };
