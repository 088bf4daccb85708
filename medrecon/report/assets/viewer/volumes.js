/* The volumes in the page: unpacked when first needed, cut into slices, read at a voxel. */

/* Undo `medrecon.report.carried`: base64, gzip, low bytes before high bytes, differences of neighbours. */
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = bytes.length / 2;
  const values = new Int16Array(count);
  let value = 0;
  for (let i = 0; i < count; i++) {
    value = (value + bytes[i] + (bytes[count + i] << 8)) & 0xffff;
    values[i] = value;
  }
  return values;
}

/* Where the value of a voxel of the shown box is kept: part `n`, its voxel `place`, and how many voxels `off`. */
function nearestHeld(parts, voxel) {
  for (let n = parts.length - 1; n >= 0; n--) {
    const { origin, step, shape } = parts[n];
    const near = voxel.map((v, a) => Math.round((v - origin[a]) / step[a]));
    if (n && near.some((v, a) => v < 0 || v >= shape[a])) continue;
    const place = near.map((v, a) => Math.min(shape[a] - 1, Math.max(0, v)));
    return { n, place, off: place.map((v, a) => origin[a] + v * step[a] - voxel[a]) };
  }
}

/* The parts of one volume, from coarse to fine: values of `parts[n]` in `data[n]`. */
class Volume {
  constructor(parts, data, [zero, step]) {
    Object.assign(this, { parts, data, zero, step });
  }

  /* The stored value at a voxel of the shown box, from the finest part that holds one near enough. */
  stored(at) {
    const { n, place: [x, y, z] } = nearestHeld(this.parts, at);
    const { shape } = this.parts[n];
    return this.data[n][x + shape[0] * (y + shape[1] * z)];
  }

  value(at) {
    return this.zero + this.step * this.stored(at);
  }

  /* One part's share of a slice: {values, columns, rows, part}, row by row along the plane's two axes; null
     where the slice does not meet the part. */
  slice(n, { across, axes: [u, v] }, index) {
    const { origin, step, shape } = this.parts[n];
    let at = (index - origin[across]) / step[across];
    if (step[across] === 1 && (at < 0 || at >= shape[across])) return null;
    at = Math.min(shape[across] - 1, Math.max(0, Math.round(at)));
    const strides = [1, shape[0], shape[0] * shape[1]];
    const values = new Int16Array(shape[u] * shape[v]);
    let to = 0;
    for (let row = 0; row < shape[v]; row++) {
      let from = at * strides[across] + row * strides[v];
      for (let column = 0; column < shape[u]; column++, from += strides[u]) values[to++] = this.data[n][from];
    }
    return { values, columns: shape[u], rows: shape[v] };
  }
}

class Store {
  constructor(facts) {
    this.facts = facts;
    this.volumes = new Map();
  }

  /* The volume that `entry` ({data: [numbers], coding}) names, unpacked once. */
  get(entry) {
    const key = entry.data[0];
    if (!this.volumes.has(key)) {
      const texts = entry.data.map((number) => document.getElementById(`volume-${number}`));
      const made = Promise.all(texts.map((node) => unpack(node.textContent))).then((data) => {
        for (const node of texts) node.textContent = "";
        return new Volume(this.facts.parts, data, entry.coding);
      });
      this.volumes.set(key, made);
    }
    return this.volumes.get(key);
  }
}
