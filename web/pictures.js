"use strict";
// Pictures as networks take them: src/onebit/runtime/pictures.py in JavaScript, which a canvas would resize otherwise.
// The bytes are the same where Pillow resizes rows first. For some shapes some of its versions resize columns first,
// others of long pictures a part: bytes may then differ by 1 or 2.
//
// Pictures are {width, height, channels, data}: bytes (height, width, channels).

const BITS = 22; // of the weights behind the point, as Pillow has them

// For each of `count` pixels from `first` on, of `scaled` ones that `length` pixels become: where its inputs start, and
// their weights. The filter is a triangle as wide as two pixels, of the inputs or, if it becomes smaller, of the outputs.
function taps(length, scaled, first, count) {
  const scale = length / scaled;
  const radius = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - radius + 0.5));
    const end = Math.min(length, Math.trunc(centre + radius + 0.5));
    const triangle = (_, k) => Math.max(0, 1 - Math.abs((k + start - centre + 0.5) * (1 / radius)));
    const weights = Array.from({ length: end - start }, triangle);
    const sum = weights.reduce((a, b) => a + b, 0);
    return { start, weights: weights.map((weight) => Math.trunc((weight / sum) * 2 ** BITS + 0.5)) };
  });
}

// A part of the picture resized to scaled.width × scaled.height: height × width pixels from (left, top) on. Rows first,
// then columns, each rounded to bytes.
function resizedPart(picture, scaled, left, top, width, height) {
  const { channels, data } = picture;
  const columns = taps(picture.width, scaled.width, left, width);
  const rows = taps(picture.height, scaled.height, top, height);
  const begin = rows[0].start;
  const end = Math.max(...rows.map((row) => row.start + row.weights.length));
  const narrow = new Uint8ClampedArray((end - begin) * width * channels);
  for (let y = begin, to = 0; y < end; ++y) {
    for (const { start, weights } of columns) {
      for (let c = 0; c < channels; ++c) {
        let sum = 2 ** (BITS - 1);
        for (let k = 0, at = (y * picture.width + start) * channels + c; k < weights.length; ++k, at += channels) {
          sum += data[at] * weights[k];
        }
        narrow[to++] = sum >> BITS;
      }
    }
  }
  const line = width * channels;
  const out = new Uint8ClampedArray(height * line);
  rows.forEach(({ start, weights }, y) => {
    for (let i = 0; i < line; ++i) {
      let sum = 2 ** (BITS - 1);
      for (let k = 0, at = (start - begin) * line + i; k < weights.length; ++k, at += line) sum += narrow[at] * weights[k];
      out[y * line + i] = sum >> BITS;
    }
  });
  return new Uint8Array(out.buffer);
}

// As Python rounds: halves to even.
function rounded(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 ? up - 1 : up;
}

// The picture at the size of the network: with `resize` its shorter side becomes so many pixels and the centre is cut
// out, else all of it is resized.
function cut(picture, height, width, resize) {
  if (!resize) return resizedPart(picture, { width, height }, 0, 0, width, height);
  const short = Math.min(picture.width, picture.height);
  const scaled = {
    width: Math.max(width, Math.floor((resize * picture.width) / short)),
    height: Math.max(height, Math.floor((resize * picture.height) / short)),
  };
  const left = rounded((scaled.width - width) / 2);
  const top = rounded((scaled.height - height) / 2);
  return resizedPart(picture, scaled, left, top, width, height);
}

// From a canvas's pixels (RGBA, opaque) to a picture of 3 channels or, by their luma, of 1.
function pictureOf(rgba, width, height, channels) {
  const data = new Uint8Array(width * height * channels);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const [r, g, b] = [rgba[from], rgba[from + 1], rgba[from + 2]];
    if (channels === 1) {
      data[to++] = (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16;
    } else {
      data[to++] = r;
      data[to++] = g;
      data[to++] = b;
    }
  }
  return { width, height, channels, data };
}

if (typeof module !== "undefined") module.exports = { cut, pictureOf };
