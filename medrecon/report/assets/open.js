/* The page of `medrecon open`: a scan is dropped, sent to this machine, measured; reports are listed. */
(() => {
  "use strict";
  const form = document.getElementById("new");
  const drop = document.getElementById("drop");
  const said = document.getElementById("said");
  const button = form.querySelector("button");
  let files = null; /* chosen here; null: what the command line named */
  let bundles = null; /* name of each network -> its layers, once they are known */

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
    ready();
    const bytes = found.reduce((sum, file) => sum + file.size, 0);
    const count = found.length === 1 ? "" : `, ${found.length} files`;
    document.getElementById("chosen").textContent = found.length
      ? `${title}${count}, ${(bytes / 1e6).toFixed(1)} MB` : "There is no file in it.";
    form.dataset.title = title;
  }

  function ready() {
    button.disabled = !bundles || !(files ? files.length : "given" in form.dataset);
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
    for (const name of bundles[form.bundle.value]) {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "checkbox", name: "layer", value: name, checked: true });
      label.append(input, ` ${name}`);
      box.append(label);
    }
  }

  function offer(found) {
    bundles = found;
    form.bundle.replaceChildren(...Object.keys(found).map((name) => new Option(name, name, false, name === "volume_autoencoder")));
    layers();
    ready();
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
    ready();
  });

  const item = (...parts) => {
    const line = document.createElement("li");
    line.append(...parts);
    return line;
  };
  const link = (name, text) =>
    Object.assign(document.createElement("a"), { href: `results/${encodeURIComponent(name)}/report.html`, textContent: text });

  function job({ number, title, state, result, error }) {
    if (state === "done") return item(link(result, title), "done");
    if (state === "failed") {
      const why = Object.assign(document.createElement("span"), { className: "failed", textContent: error });
      return item(title, why);
    }
    if (state === "stopped") return item(title, "stopped: nothing is kept of it");
    const bar = Object.assign(document.createElement("progress"), { max: 1 });
    bar.setAttribute("aria-label", title);
    const stop = Object.assign(document.createElement("button"), { type: "button", textContent: "Stop" });
    stop.setAttribute("aria-label", `Stop ${title}`);
    stop.disabled = state === "stopping";
    stop.addEventListener("click", () => post("stop", { number }).catch(() => {}).then(refresh));
    return item(title, bar, document.createElement("output"), stop);
  }

  /* Lines stay what they are while their job's state does: who is on a button stays there. */
  const lines = new Map();
  function line(each) {
    let known = lines.get(each.number);
    if (known?.state !== each.state) lines.set(each.number, (known = { state: each.state, line: job(each) }));
    const bar = known.line.querySelector("progress");
    if (bar) {
      bar.value = each.share;
      known.line.querySelector("output").textContent = each.state === "running" ? `${Math.round(100 * each.share)} %` : each.state;
    }
    return known.line;
  }

  function put(list, now) {
    if (now.length !== list.children.length || now.some((each, n) => each !== list.children[n])) list.replaceChildren(...now);
  }

  const under = (state) => ["waiting", "running", "stopping"].includes(state);
  let shown = "";
  const opened = new Set();
  /* What the command says now; the milliseconds after which to look again, 0 for never. */
  async function look() {
    let state;
    try {
      state = await ask("state");
    } catch (error) {
      said.textContent = error instanceof TypeError ? "The command has ended: this page is of no use any more." : error.message;
      return 0;
    }
    if (state.bundles && !bundles) offer(state.bundles);
    if (state.jobs.length) put(document.getElementById("jobs"), state.jobs.map(line));
    const now = JSON.stringify(state.results);
    if (now !== shown) {
      shown = now;
      const results = state.results.map(({ name, label, model, when }) => {
        const small = Object.assign(document.createElement("small"), { textContent: `${model}, ${when}` });
        return item(link(name, label), small);
      });
      if (results.length) document.getElementById("results").replaceChildren(...results);
    }
    const busy = state.jobs.some((each) => under(each.state));
    for (const each of state.jobs) {
      if (under(each.state)) opened.add(each.number);
      else if (each.state === "done" && opened.delete(each.number) && !busy) location.href = `results/${each.result}/report.html`;
    }
    return busy || !bundles ? 1000 : 5000;
  }

  let due;
  async function refresh() {
    const again = await look();
    clearTimeout(due);
    if (again) due = setTimeout(refresh, again);
  }

  refresh();
})();
