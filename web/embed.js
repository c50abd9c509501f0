// node embed.js FOLDER: the packed files of a folder as a script for the page, `const ZOO = {name: base64}`.
"use strict";
const fs = require("fs");
const path = require("path");

const folder = process.argv[2];
const names = fs.readdirSync(folder).filter((name) => name.endsWith(".safetensors"));
const files = names.sort().map((name) => [name.replace(/\.safetensors$/, ""), fs.readFileSync(path.join(folder, name), "base64")]);
process.stdout.write(`const ZOO = ${JSON.stringify(Object.fromEntries(files))};\n`);
