/* What is left of the finding that was clicked: the same measure as `medrecon.evaluation.findings`, of a ball. */

const SHELL = 5; /* mm of surroundings beyond the gap */
const LEAST = 20; /* voxels of the surroundings */
const STUDENT = 2.228139; /* t of 10 degrees of freedom, 95 % */

/* The finest part of the volumes that holds all of a box; the coarsest, thinned part where none does. */
function partAround(parts, from, to) {
  const holds = ({ origin, step, shape }) =>
    from.every((v, a) => v >= origin[a] && to[a] <= origin[a] + step[a] * (shape[a] - 1));
  for (let n = parts.length - 1; n > 0; n--) if (holds(parts[n])) return n;
  return 0;
}

/* The ball and its shell on the voxels that are held: {part, shape, from, use}, `use` 1 in the ball, 2 in the
   shell, first axis fastest, of the box of `shape` voxels that begins at voxel `from` of the part. */
function ballAndShell({ shape: whole, spacing, parts }, at, radius) {
  const gap = Math.max(1, [...spacing].sort((a, b) => a - b)[1]);
  const reach = spacing.map((mm) => Math.ceil((radius + gap + SHELL) / mm));
  const low = at.map((v, a) => Math.max(0, v - reach[a]));
  const high = at.map((v, a) => Math.min(whole[a] - 1, v + reach[a]));
  const part = partAround(parts, low, high);
  const { origin, step, shape: held } = parts[part];
  const from = low.map((v, a) => Math.max(0, Math.ceil((v - origin[a]) / step[a])));
  const shape = high.map((v, a) => Math.min(held[a] - 1, Math.floor((v - origin[a]) / step[a])) - from[a] + 1);
  const mm = spacing.map((size, a) => size * step[a]);
  const use = new Uint8Array(shape[0] * shape[1] * shape[2]);
  const places = [];
  for (let k = 0, n = 0; k < shape[2]; k++) {
    for (let j = 0; j < shape[1]; j++) {
      for (let i = 0; i < shape[0]; i++, n++) {
        const off = [i, j, k].map((v, a) => (origin[a] + (from[a] + v) * step[a] - at[a]) * spacing[a]);
        const far = Math.hypot(...off);
        if (far <= radius + 1e-9) use[n] = 1;
        places.push([off, far]);
      }
    }
  }
  /* the shell is measured from the nearest voxel of the ball, of which only those at its rim can be nearest */
  const rim = places.filter(([, far], n) => use[n] === 1 && far > radius - 2 * Math.max(...mm)).map(([off]) => off);
  places.forEach(([[x, y, z], far], n) => {
    if (use[n] || far > radius + gap + SHELL) return;
    let nearest = Infinity;
    for (const [u, v, w] of rim) nearest = Math.min(nearest, (x - u) ** 2 + (y - v) ** 2 + (z - w) ** 2);
    if (nearest > gap ** 2 + 1e-9 && nearest <= (gap + SHELL) ** 2 + 1e-9) use[n] = 2;
  });
  return { part, shape, from, mm, use };
}

/* The values of a volume in the box of `ballAndShell`. */
function valuesIn(volume, { part, shape, from, use }) {
  const { shape: held } = volume.parts[part];
  const found = new Float64Array(use.length);
  for (let k = 0, n = 0; k < shape[2]; k++) {
    for (let j = 0; j < shape[1]; j++) {
      let at = from[0] + held[0] * (from[1] + j + held[1] * (from[2] + k));
      for (let i = 0; i < shape[0]; i++, n++, at++) found[n] = volume.zero + volume.step * volume.data[part][at];
    }
  }
  return found;
}

function means(values, use) {
  const [sum, count] = [[0, 0, 0], [0, 0, 0]];
  values.forEach((value, n) => { sum[use[n]] += value; count[use[n]]++; });
  return [sum[1] / count[1], sum[2] / count[2]];
}

/* Lags of one half of space, by whole steps of the smallest voxel side: the other half is its mirror image. */
function lagsByDistance(shape, mm) {
  const smallest = Math.min(...mm);
  const bins = [];
  for (let k = 0; k < shape[2]; k++) {
    for (let j = k ? 1 - shape[1] : 0; j < shape[1]; j++) {
      for (let i = k || j ? 1 - shape[0] : 0; i < shape[0]; i++) {
        const bin = Math.round(Math.hypot(i * mm[0], j * mm[1], k * mm[2]) / smallest);
        (bins[bin] ??= []).push([i, j, k]);
      }
    }
  }
  return bins;
}

/* Half width of the interval of a contrast with this error: `FindingMeter._reach`, lag by lag up to the first
   zero of the autocovariance in place of by Fourier transforms. */
function reachOf(error, { shape, mm, use }, bins) {
  const [inside, around] = means(error, use);
  const count = [0, 0, 0];
  use.forEach((which) => count[which]++);
  const left = error.map((value, n) => (use[n] ? value - (use[n] === 1 ? inside : around) : 0));
  const weights = [0, 1 / count[1], -1 / count[2]];
  let variance = 0;
  for (const lags of bins) {
    if (!lags) break;
    let [products, pairs, weighted] = [0, 0, 0];
    for (const [i, j, k] of lags) {
      const both = i || j || k ? 2 : 1;
      const step = i + shape[0] * (j + shape[1] * k);
      for (let z = 0; z < shape[2] - k; z++) {
        for (let y = Math.max(0, -j); y < Math.min(shape[1], shape[1] - j); y++) {
          const row = shape[0] * (y + shape[1] * z);
          for (let n = row + Math.max(0, -i); n < row + Math.min(shape[0], shape[0] - i); n++) {
            if (!use[n] || !use[n + step]) continue;
            products += both * left[n] * left[n + step];
            pairs += both;
            weighted += both * weights[use[n]] * weights[use[n + step]];
          }
        }
      }
    }
    if (products <= 0) break;
    variance += (products / pairs) * weighted;
  }
  return STUDENT * Math.sqrt(Math.max(0, variance));
}

/* Contrast of the ball in the source, and the share of it that each layer keeps with its interval: {contrast,
   exact, kept: [[share, low, high]]}; `exact` where every voxel counts. Null where too little is around it, or
   as soon as `stale()`. */
async function findingAt(model, at, radius, stale = () => false) {
  const found = ballAndShell(model.facts, at, radius);
  if (found.use.filter((which) => which === 2).length < LEAST) return null;
  const source = valuesIn(model.volumes.source, found);
  const difference = (values) => { const [inside, around] = means(values, found.use); return inside - around; };
  const contrast = difference(source);
  const exact = model.facts.parts[found.part].step.every((step) => step === 1);
  const bins = lagsByDistance(found.shape, found.mm);
  const kept = [];
  for (const { reconstruction } of contrast ? model.facts.layers : []) {
    const after = valuesIn(await model.store.get(reconstruction), found);
    await new Promise((next) => setTimeout(next)); /* the page stays alive between layers */
    if (stale()) return null;
    const share = difference(after) / contrast;
    const reach = reachOf(after.map((value, n) => value - share * source[n]), found, bins) / Math.abs(contrast);
    kept.push([share, share - reach, share + reach]);
  }
  return { contrast, exact, kept };
}
