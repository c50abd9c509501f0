"use strict";
// The page: a network, a picture or the camera, and what the one says of the other.

const TOP = 5;
const ROUNDS = 300; // of a measurement, at most ...
const PATIENCE = 300; // ... and milliseconds

const element = (id) => document.getElementById(id);
const engine = createOnebit();
const state = { network: null, size: 0, record: null, picture: null, stream: null };
const zoo = zooOf(ZOO);

// Runs what a person asked for; what fails is one line.
async function attempt(work) {
  element("error").hidden = true;
  try {
    await work();
  } catch (error) {
    element("error").textContent = error.message;
    element("error").hidden = false;
  }
}

function number(value) {
  return value.toLocaleString("en-US");
}

function bytesText(size) {
  return size < 1e6 ? `${(size / 1e3).toFixed(1)} kB` : `${(size / 1e6).toFixed(2)} MB`;
}

async function openModel(file) {
  await openNetwork(file.name, new Uint8Array(await file.arrayBuffer()));
  element("model-name").textContent = file.name;
  element("model-zone").classList.add("filled");
  element("zoo").value = "";
}

async function openNetwork(name, bytes) {
  const network = new Network(await engine, bytes);
  state.network?.free();
  Object.assign(state, { network, size: bytes.length, record: recordOf(bytes) });
  element("top").textContent = "No result yet";
  element("labels").replaceChildren();
  showFacts(network, "no picture yet");
  imageInput(network);
  show();
}

async function openOfZoo(name) {
  await openNetwork(name, zoo.find((network) => network.name === name).bytes);
  element("model-name").textContent = "Or your own .safetensors file";
  element("model-zone").classList.remove("filled");
  element("model").value = "";
}

function offerZoo() {
  const own = new Option("your own file", "");
  own.hidden = true;
  element("zoo").append(own, ...zoo.map(({ name, text }) => new Option(text, name)));
  element("zoo").value = zoo[0].name;
  element("zoo").addEventListener("change", ({ target }) => attempt(() => openOfZoo(target.value)));
  element("chooser").hidden = false;
  return attempt(() => openOfZoo(zoo[0].name));
}

// Opaque pixels of an image, a frame or a canvas, upright, over white.
function pixels(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0);
  return context.getImageData(0, 0, width, height);
}

async function openPicture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new OnebitError(`${file.name} cannot be read as a picture by this browser`);
  }
  const picture = pixels(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  stopCamera();
  state.picture = picture;
  const preview = element("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  element("picture-name").textContent = file.name;
  element("picture-zone").classList.add("filled");
  show();
}

// The one image that the network takes. Throws for other networks.
function imageInput(network) {
  const [input] = network.inputs;
  const takes = network.inputs.map(({ name, type }) => `${name} (${type})`).join(", ");
  if (network.inputs.length > 1 || input.type !== "image") {
    throw new OnebitError(`this page runs networks that take one picture; ${network.name} takes ${takes}`);
  }
  if (network.answers === "boxes") {
    throw new OnebitError(`this page shows labels, and ${network.name} answers boxes: onebit run FILE PICTURE --draw FOLDER draws them`);
  }
  if (![1, 3].includes(input.shape.channels)) {
    throw new OnebitError(`${network.name} takes images of ${input.shape.channels} channels; pictures have 1 or 3`);
  }
  return input;
}

// The answer for a picture, with the milliseconds of preparing it and of one run.
function answerOf(network, rgba, rounds) {
  const { shape, resize } = imageInput(network);
  const start = performance.now();
  const picture = pictureOf(rgba.data, rgba.width, rgba.height, shape.channels);
  const data = cut(picture, shape.height, shape.width, resize);
  const prepared = performance.now() - start;
  const times = [];
  let values;
  do {
    const begin = performance.now();
    [values] = network.run([{ form: "bytes", data }]);
    times.push(performance.now() - begin);
  } while (times.length < rounds && performance.now() - start < PATIENCE);
  times.sort((a, b) => a - b);
  return { answer: network.answer(values, TOP), seen: { data, ...shape }, prepared, run: times[times.length >> 1], rounds: times.length };
}

function score(network, value) {
  return network.answers === "values" ? value.toPrecision(4) : `${(100 * value).toFixed(1)} %`;
}

function showAnswer(network, { answer, seen, prepared, run, rounds }) {
  element("top").textContent = `${answer[0].label} ${score(network, answer[0].score)}`;
  const largest = Math.max(...answer.map((part) => Math.abs(part.score))) || 1;
  const whole = network.answers === "values" ? largest : 1;
  element("labels").replaceChildren(
    ...answer.map((part) => {
      const row = document.createElement("li");
      row.dataset.score = part.score;
      row.style.setProperty("--part", `${(100 * Math.max(0, part.score)) / whole}%`);
      row.append(cell("span", part.label), cell("span", score(network, part.score)));
      return row;
    }),
  );
  const rgba = new Uint8ClampedArray(4 * seen.width * seen.height).fill(255);
  for (let i = 0; i < seen.width * seen.height; ++i) {
    for (let c = 0; c < 3; ++c) rgba[4 * i + c] = seen.data[i * seen.channels + (seen.channels === 3 ? c : 0)];
  }
  Object.assign(element("input"), { width: seen.width, height: seen.height });
  element("input").getContext("2d").putImageData(new ImageData(rgba, seen.width, seen.height), 0, 0);
  element("seen-text").textContent = `What the network sees: ${seen.width} × ${seen.height} pixels, made in ${prepared.toFixed(1)} ms`;
  element("seen").hidden = false;
  const milliseconds = `${run.toFixed(run < 10 ? 2 : 1)} ms an image`;
  showFacts(network, rounds > 1 ? `${milliseconds} (median of ${rounds}, one thread, ${network.isa})` : milliseconds);
}

function cell(kind, content) {
  const made = document.createElement(kind);
  made.textContent = content;
  return made;
}

function showFacts(network, time) {
  const inputs = network.inputs.map(({ type, shape }) => `${type} ${shape.height} × ${shape.width} × ${shape.channels}`);
  const facts = [
    ["Time", time],
    ["Network", network.name],
    ["Method", network.method],
    ["Input", inputs.join(", ")],
    ["File", `${bytesText(state.size)} (${number(state.size)} bytes)`],
    ["Scores", scoresText(state.record)],
    ["Trained", trainingText(state.record)],
  ].filter(([, value]) => value);
  element("facts").replaceChildren(...facts.flatMap(([name, value]) => [cell("dt", name), cell("dd", value)]));
}

// One answer for what there is; of the camera, the answer of each frame takes one run.
function show(rounds = ROUNDS) {
  const { network, picture } = state;
  if (network && picture) showAnswer(network, answerOf(network, picture, rounds));
}

async function startCamera() {
  if (!navigator.mediaDevices) throw new OnebitError("this browser offers pages from here no camera");
  try {
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new OnebitError(`the camera cannot be used: ${error.message}`);
  }
  const video = element("video");
  video.srcObject = state.stream;
  video.hidden = false;
  element("preview").hidden = true;
  element("camera").setAttribute("aria-pressed", "true");
  element("camera").textContent = "Stop the camera";
  element("labels").setAttribute("aria-live", "off"); // nobody can listen to every frame
  await video.play();
  const next = () => {
    if (!state.stream) return;
    if (video.videoWidth) state.picture = pixels(video, video.videoWidth, video.videoHeight);
    attempt(() => show(1));
    requestAnimationFrame(next);
  };
  next();
}

function stopCamera() {
  if (!state.stream) return;
  state.stream.getTracks().forEach((track) => track.stop());
  state.stream = null;
  element("video").hidden = true;
  element("camera").setAttribute("aria-pressed", "false");
  element("camera").textContent = "Use the camera";
  element("labels").setAttribute("aria-live", "polite");
}

// Networks first, so that both may be dropped at once.
function openAll(files) {
  const isModel = (file) => file.name.endsWith(".safetensors");
  return attempt(async () => {
    for (const file of files.filter(isModel)) await openModel(file);
    for (const file of files.filter((other) => !isModel(other))) await openPicture(file);
  });
}

for (const id of ["model", "picture"]) {
  element(id).addEventListener("change", ({ target }) => {
    const [file] = target.files; // none where the choice was given up
    if (file) attempt(() => (id === "model" ? openModel(file) : openPicture(file)));
  });
}
element("camera").addEventListener("click", () => attempt(() => (state.stream ? stopCamera() : startCamera())));
for (const [event, dragging] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(event, (happened) => {
    happened.preventDefault();
    document.body.classList.toggle("dragging", dragging);
  });
}
document.addEventListener("drop", ({ dataTransfer }) => openAll([...dataTransfer.files]));
if (zoo.length) offerZoo();
engine.catch((error) => attempt(() => Promise.reject(error)));
