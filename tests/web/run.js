// node run.js onebit.js jobs.json: runs networks with the engine for WebAssembly, and says what came out as JSON.
// A job: {model, isa, image: bytes (1, H, W, C) in base64, rounds: if given, for the median time of one}.
"use strict";
const fs = require("fs");
const path = require("path");

const web = path.join(__dirname, "..", "..", "web");
const { Network } = require(path.join(web, "engine.js"));

function milliseconds(network, image, rounds) {
  const times = [];
  for (let round = 0; round < rounds; ++round) {
    const start = performance.now();
    network.run([{ form: "bytes", data: image }]);
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[rounds >> 1];
}

function done(engine, { model, isa, image, rounds }) {
  try {
    const network = new Network(engine, fs.readFileSync(model), isa);
    const { height, width, channels } = network.inputs[0].shape;
    const bytes = image ? Buffer.from(image, "base64") : new Uint8Array(height * width * channels);
    const [logits] = network.run([{ form: "bytes", data: bytes }]);
    const result = {
      isa: network.isa,
      name: network.name,
      labels: network.labels,
      logits: Array.from(logits),
      answer: network.answer(logits, 3),
    };
    if (rounds) result.milliseconds = milliseconds(network, bytes, rounds);
    network.free();
    return result;
  } catch (error) {
    return { error: `${error.constructor.name}: ${error.message}` };
  }
}

const [script, jobs] = process.argv.slice(2);
require(path.resolve(script))().then((engine) => {
  const results = JSON.parse(fs.readFileSync(jobs, "utf8")).map((job) => done(engine, job));
  process.stdout.write(JSON.stringify(results));
});
