/* What is left of the finding that was clicked: the same measure as `medrecon.evaluation.findings`, of a ball. */

const SHELL = 5; /* mm of surroundings beyond the gap */
const LEAST = 20; /* voxels of the surroundings */

/* Voxels within `radius` mm of a voxel, and of the shell around them. */
function ballAndShell({ shape, spacing }, at, radius) {
  const sorted = [...spacing].sort((a, b) => a - b);
  const gap = Math.max(1, sorted[1]);
  const reach = spacing.map((mm) => Math.ceil((radius + gap + SHELL) / mm));
  const [inside, around] = [[], []];
  const from = at.map((v, a) => Math.max(0, v - reach[a]));
  const to = at.map((v, a) => Math.min(shape[a] - 1, v + reach[a]));
  for (let k = from[2]; k <= to[2]; k++) {
    for (let j = from[1]; j <= to[1]; j++) {
      for (let i = from[0]; i <= to[0]; i++) {
        const far = Math.hypot((i - at[0]) * spacing[0], (j - at[1]) * spacing[1], (k - at[2]) * spacing[2]);
        if (far <= radius) inside.push([i, j, k]);
        else if (far > radius + gap && far <= radius + gap + SHELL) around.push([i, j, k]);
      }
    }
  }
  return { inside, around };
}

/* Contrast of the ball in the source, and the share of it that each layer keeps: {contrast, kept: [share]}. */
async function findingAt(model, at, radius) {
  const { inside, around } = ballAndShell(model.facts, at, radius);
  if (around.length < LEAST) return null;
  const mean = (volume, places) => places.reduce((sum, place) => sum + volume.value(place), 0) / places.length;
  const contrast = (volume) => mean(volume, inside) - mean(volume, around);
  const source = contrast(model.volumes.source);
  const kept = [];
  for (const { reconstruction } of model.facts.layers) {
    kept.push(contrast(await model.store.get(reconstruction)) / source);
  }
  return { contrast: source, kept };
}
