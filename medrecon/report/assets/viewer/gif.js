/* An animated GIF (GIF89a, CompuServe 1990): one palette for all frames, LZW of variable width. */

const CODE_BITS = 8;
const LONGEST = 4096;

/* Indices of pixels as LZW codes, cut into blocks of at most 255 bytes. */
function lzw(indices) {
  const clear = 1 << CODE_BITS;
  const end = clear + 1;
  const bytes = [];
  let buffer = 0, filled = 0, width, table, next;
  const put = (code) => {
    buffer |= code << filled;
    filled += width;
    for (; filled >= 8; filled -= 8, buffer >>>= 8) bytes.push(buffer & 255);
  };
  const restart = () => {
    put(clear);
    table = new Map();
    next = end + 1;
    width = CODE_BITS + 1;
  };
  width = CODE_BITS + 1;
  restart();
  let prefix = indices[0];
  for (let i = 1; i < indices.length; i++) {
    const key = (prefix << 8) | indices[i];
    const known = table.get(key);
    if (known !== undefined) {
      prefix = known;
      continue;
    }
    put(prefix);
    if (next < LONGEST) {
      table.set(key, next);
      if (next === 1 << width) width++;
      next++;
    } else {
      restart();
    }
    prefix = indices[i];
  }
  put(prefix);
  put(end);
  if (filled) bytes.push(buffer & 255);
  const blocks = [CODE_BITS];
  for (let i = 0; i < bytes.length; i += 255) {
    const block = bytes.slice(i, i + 255);
    blocks.push(block.length, ...block);
  }
  blocks.push(0);
  return blocks;
}

/* The nearest colour of a palette, remembered for colours alike in five bits. */
function indexed({ data }, palette) {
  const known = new Int16Array(32768).fill(-1);
  const found = new Uint8Array(data.length / 4);
  for (let i = 0, at = 0; i < found.length; i++, at += 4) {
    const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
    if (r === g && g === b) {
      found[i] = r >> 1; /* the first half of the palette is gray */
      continue;
    }
    const key = ((r >> 3) << 10) | ((g >> 3) << 5) | (b >> 3);
    if (known[key] < 0) {
      let best = Infinity;
      palette.forEach(([x, y, z], n) => {
        const far = (r - x) ** 2 + (g - y) ** 2 + (b - z) ** 2;
        if (far < best) [best, known[key]] = [far, n];
      });
    }
    found[i] = known[key];
  }
  return found;
}

/* frames: [{image: ImageData, hundredths}], all of one size; colours: [[r, g, b]], 128 at most beside the grays. */
function animatedGif(frames, colours) {
  const { width, height } = frames[0].image;
  const palette = Array.from({ length: 128 }, (_, n) => [2 * n, 2 * n, 2 * n]);
  for (let n = 0; n < 128; n++) palette.push(colours[Math.round((n * (colours.length - 1)) / 127)]);
  const short = (value) => [value & 255, value >> 8];
  const text = (chars) => Array.from(chars, (char) => char.charCodeAt(0));
  const pieces = [
    [...text("GIF89a"), ...short(width), ...short(height), 0xf7, 0, 0, ...palette.flat()],
    [0x21, 0xff, 11, ...text("NETSCAPE2.0"), 3, 1, 0, 0, 0],
  ];
  for (const { image, hundredths } of frames) {
    pieces.push([0x21, 0xf9, 4, 0, ...short(hundredths), 0, 0]);
    pieces.push([0x2c, 0, 0, 0, 0, ...short(width), ...short(height), 0]);
    pieces.push(lzw(indexed(image, palette)));
  }
  pieces.push([0x3b]);
  return new Blob(pieces.map((piece) => Uint8Array.from(piece)), { type: "image/gif" });
}
