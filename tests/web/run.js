// node run.js onebit.js jobs.json: what the engine for WebAssembly makes of each job, as JSON.
//
//   {model, isa}          loads a file
//   ... image             and runs it on bytes (1, H, W, C), in base64
//   ... rounds            so many times more, for the median of the milliseconds
//   {picture, size}       a picture whose data is in base64, cut to size: [height, width, resize]
"use strict";
const fs = require("fs");
const path = require("path");

const web = path.join(__dirname, "..", "..", "web");
const { Network } = require(path.join(web, "engine.js"));
const { cut } = require(path.join(web, "pictures.js"));

function median(rounds, call) {
  const times = Array.from({ length: rounds }, () => {
    const start = performance.now();
    call();
    return performance.now() - start;
  });
  return times.sort((a, b) => a - b)[rounds >> 1];
}

function answered(network, image, rounds) {
  const inputs = [{ form: "bytes", data: image }];
  const [logits] = network.run(inputs);
  const result = { isa: network.isa, logits: Array.from(logits), answer: network.answer(logits, 3) };
  if (rounds) result.milliseconds = median(rounds, () => network.run(inputs));
  return result;
}

function done(engine, { model, isa, image, rounds, picture, size }) {
  if (picture) {
    const data = Buffer.from(picture.data, "base64");
    return { data: Buffer.from(cut({ ...picture, data }, ...size)).toString("base64") };
  }
  let network;
  try {
    network = new Network(engine, fs.readFileSync(model), isa);
    return image ? answered(network, Buffer.from(image, "base64"), rounds) : {};
  } catch (error) {
    return { kind: error.constructor.name, error: error.message };
  } finally {
    network?.free();
  }
}

const [script, jobs] = process.argv.slice(2);
require(path.resolve(script))().then((engine) => {
  const results = JSON.parse(fs.readFileSync(jobs, "utf8")).map((job) => done(engine, job));
  fs.writeSync(1, JSON.stringify(results));
});
