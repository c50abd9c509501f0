"use strict";
// The networks that come with the page, and what a packed file says of itself beside what the engine tells.

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

// The graph of a file that the engine has read, and so checked: its scores, recipe and training, as far as they are known.
function recordOf(bytes) {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const { recipe, task, accuracy, training, input, inputs } = JSON.parse(header.__metadata__.graph);
  const scores = task?.scores ?? (typeof accuracy === "number" ? { accuracy } : {}); // the latter in files of version 1
  const { shape } = input ?? inputs[0];
  return { recipe: recipe ?? "", scores, training: training ?? {}, coloured: shape?.[0] === 3 };
}

function scoresText({ scores }) {
  return Object.entries(scores).map(([name, value]) => `${name} ${value.toFixed(2)} %`).join(", ");
}

function trainingText({ training, recipe }) {
  const { data, epochs_done: epochs, seed } = training;
  const parts = [recipe && `recipe ${recipe}`, epochs !== undefined && `${epochs} epochs`, seed !== undefined && `seed ${seed}`];
  return [data && `on ${data}`, ...parts].filter(Boolean).join(", ");
}

// [{name, bytes, text}, ...]: those of coloured pictures first, the best of them before the others.
function zooOf(files) {
  const found = Object.entries(files).map(([name, content]) => {
    const bytes = fromBase64(content);
    const record = recordOf(bytes);
    const text = [name, scoresText(record)].filter(Boolean).join(", ");
    return { name, bytes, text, place: [Number(record.coloured), Object.values(record.scores)[0] ?? 0] };
  });
  return found.sort((a, b) => b.place[0] - a.place[0] || b.place[1] - a.place[1]);
}
