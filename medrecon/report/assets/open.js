/* The page of `medrecon open`: a scan is dropped, sent to this machine, measured; reports are listed. */
(() => {
  "use strict";
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const form = document.getElementById("new");
  const drop = document.getElementById("drop");
  const said = document.getElementById("said");
  const button = form.querySelector("button");
  let files = null; /* chosen here; null: what the command line named */

  async function ask(path, options = {}) {
    const answer = await fetch(path, options);
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    return content;
  }
  const post = (path, content) => ask(path, { method: "POST", body: JSON.stringify(content) });

  function choose(found, title) {
    files = found;
    said.textContent = "";
    button.disabled = !found.length;
    const bytes = found.reduce((sum, file) => sum + file.size, 0);
    const count = found.length === 1 ? "" : `, ${found.length} files`;
    document.getElementById("chosen").textContent = found.length
      ? `${title}${count}, ${(bytes / 1e6).toFixed(1)} MB` : "There is no file in it.";
    form.dataset.title = title;
  }

  /* All files of what was dropped, folders walked. */
  async function walk(entry) {
    if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) break;
      for (const each of some) found.push(...(await walk(each)));
    }
    return found;
  }

  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
    });
  }
  drop.addEventListener("drop", async ({ dataTransfer }) => {
    const entries = [...dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = [...dataTransfer.files];
    const found = entries.length ? (await Promise.all(entries.map(walk))).flat() : plain;
    choose(found, entries[0]?.name ?? plain[0]?.name ?? "scan");
  });
  form.addEventListener("change", ({ target }) => {
    if (target.type === "file") {
      const found = [...target.files];
      choose(found, target.name === "folder" ? found[0]?.webkitRelativePath.split("/")[0] : found[0]?.name);
    } else if (target.name === "bundle") {
      layers();
    }
  });

  function layers() {
    const box = document.getElementById("layers");
    box.querySelectorAll("label").forEach((label) => label.remove());
    for (const name of facts.bundles[form.bundle.value]) {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "checkbox", name: "layer", value: name, checked: true });
      label.append(input, ` ${name}`);
      box.append(label);
    }
  }

  async function send() {
    const { upload } = await post("upload", {});
    let done = 0;
    for (const file of files) {
      said.textContent = `Sending ${++done} of ${files.length} …`;
      await ask(`upload/${upload}/${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    }
    said.textContent = "";
    return upload;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = [...form.querySelectorAll('[name="layer"]')];
    const asked = chosen.filter((box) => box.checked).map((box) => box.value);
    button.disabled = true;
    try {
      if (!asked.length) throw new Error("choose a layer");
      const upload = files && (await send());
      const title = form.dataset.title ?? "scan";
      await post("run", {
        ...(upload ? { upload } : {}), title, bundle: form.bundle.value, hu: form.hu.checked,
        ...(asked.length < chosen.length ? { layers: asked } : {}),
      });
      refresh();
    } catch (error) {
      said.textContent = error.message;
    }
    button.disabled = false;
  });

  const item = (...parts) => {
    const line = document.createElement("li");
    line.append(...parts);
    return line;
  };
  const link = (name, text) =>
    Object.assign(document.createElement("a"), { href: `results/${encodeURIComponent(name)}/report.html`, textContent: text });

  function job({ title, state, share, result, error }) {
    if (state === "done") return item(link(result, title), "done");
    if (state === "failed") {
      const why = Object.assign(document.createElement("span"), { className: "failed", textContent: error });
      return item(title, why);
    }
    const bar = Object.assign(document.createElement("progress"), { max: 1, value: share });
    bar.setAttribute("aria-label", `${title}: ${state}`);
    return item(title, bar, state === "running" ? `${Math.round(100 * share)} %` : state);
  }

  let shown = "";
  let opened = new Set();
  async function refresh() {
    const state = await ask("state").catch(() => null);
    if (!state) {
      said.textContent = "The command has ended: this page is of no use any more.";
      return;
    }
    const now = JSON.stringify(state);
    if (now !== shown) {
      shown = now;
      if (state.jobs.length) document.getElementById("jobs").replaceChildren(...state.jobs.map(job));
      const results = state.results.map(({ name, label, model, when }) => {
        const small = Object.assign(document.createElement("small"), { textContent: `${model}, ${when}` });
        return item(link(name, label), small);
      });
      if (results.length) document.getElementById("results").replaceChildren(...results);
    }
    const busy = state.jobs.some((each) => ["waiting", "running"].includes(each.state));
    for (const each of state.jobs) {
      if (each.state === "running" || each.state === "waiting") opened.add(each.number);
      else if (each.state === "done" && opened.delete(each.number) && !busy) location.href = `results/${each.result}/report.html`;
    }
    setTimeout(refresh, busy ? 1000 : 5000);
  }

  layers();
  refresh();
})();
