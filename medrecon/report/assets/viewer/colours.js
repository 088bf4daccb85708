/* Stored values to colours, by tables of all 16-bit values: a slice is coloured without a sum for each voxel. */

const opaque = (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

function grays(low, high, { zero, step }) {
  const table = new Uint32Array(65536);
  for (let stored = -32768; stored < 32768; stored++) {
    const level = Math.max(0, Math.min(255, Math.round(((zero + step * stored - low) * 255) / (high - low || 1))));
    table[stored & 0xffff] = opaque(level, level, level);
  }
  return table;
}

/* Colours of values from `low` to `high` by a ramp of [r, g, b]. */
function ramped(ramp, low, high, step) {
  const table = new Uint32Array(65536);
  const last = ramp.length - 1;
  for (let stored = -32768; stored < 32768; stored++) {
    const share = (step * stored - low) / (high - low);
    table[stored & 0xffff] = opaque(...ramp[Math.max(0, Math.min(last, Math.round(share * last)))]);
  }
  return table;
}

/* A slice as a small canvas, one pixel a voxel. */
function painted({ values, columns, rows }, table) {
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < values.length; i++) pixels[i] = table[values[i] & 0xffff];
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/* after - before in stored steps, kept inside 16 bits. */
function apart(after, before) {
  const values = new Int16Array(after.values.length);
  for (let i = 0; i < values.length; i++) {
    values[i] = Math.max(-32768, Math.min(32767, after.values[i] - before.values[i]));
  }
  return { ...after, values };
}
