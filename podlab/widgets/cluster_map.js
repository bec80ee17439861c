// The cluster map: nodes are boxes, pods are tiles keyed by uid. Draws `view`, holds no state of its own
// but what is being looked at. What it can do beside has a call in Python.
const WORDS = {
  running: ["●", "R", "running and ready"], notready: ["◍", "N", "running, not ready"], pending: ["◔", "P", "pending"],
  crashloop: ["▲", "C", "crash loop"], terminating: ["✕", "T", "terminating"], succeeded: ["✓", "S", "succeeded"],
  failed: ["■", "F", "failed"],
};
const told = (pod) => {
  const words = [WORDS[pod.state][2]];
  if (pod.reason) words.push(pod.reason);
  if (pod.restarts) words.push(`${pod.restarts} restart${pod.restarts > 1 ? "s" : ""}`);
  return `${pod.name}: ${words.join(", ")}${pod.node ? `, on ${pod.node}` : ", on no node"}`;
};

function render({ model, el, signal }) {
  const send = sender(model, (words) => { detail.textContent = words; time.halt(); });
  const root = make("div", { class: "podlab-map", role: "group", "data-lm-suppress-shortcuts": "true" });
  const title = make("strong");
  const age = make("span", { class: "age" });
  const head = make("div", { class: "head" }, title, age);
  const boxes = make("div", { class: "boxes" });
  const live = make("div", { class: "live", role: "status", "aria-live": "polite" });
  const say = speaker(live);
  const detail = make("div", { class: "detail", text: "Point at a tile, or reach it with the arrow keys." });
  const mark = make("div", { class: "mark" });
  const time = timebar(model, send);
  const legend = make("div", { class: "legend", "aria-label": "Legend", role: "group" });
  for (const [state, [sign, letter, words]] of Object.entries(WORDS)) {
    legend.append(make("span", {}, make("span", { class: `tile ${state}`, "aria-hidden": "true", text: sign + letter }),
      make("span", { text: words })));
  }
  const help = make("div", { class: "help" });
  const table = make("table");
  const asTable = make("details", {}, make("summary", { text: "As a table" }), table);
  root.append(head, boxes, mark, detail, live, time.whole, legend, help, asTable);
  el.append(root);

  const tiles = new Map(); // uid -> button
  const nodes = new Map(); // node name -> {section, grid, name}
  let arrived = Date.now(), first = true, held = null;

  const listed = () => [...boxes.querySelectorAll("button.tile")];

  const section = (name) => {
    if (!nodes.has(name)) {
      const label = make("div", { class: "name" });
      const grid = make("div", { class: "grid" });
      nodes.set(name, { section: make("div", { class: "node", role: "group" }, label, grid), grid, label });
    }
    return nodes.get(name);
  };

  const drawTile = (pod) => {
    let button = tiles.get(pod.uid);
    if (!button) {
      button = make("button", { type: "button", "data-uid": pod.uid, tabindex: "-1" });
      button.addEventListener("focus", () => { held = pod.uid; detail.textContent = button.title; });
      button.addEventListener("mouseenter", () => { detail.textContent = button.title; });
      tiles.set(pod.uid, button);
      if (!first) button.classList.add("new");
    }
    const [sign, letter] = WORDS[pod.state];
    const label = sign + letter + (pod.restarts ? `·${pod.restarts}` : "");
    if (button.textContent !== label) button.textContent = label;
    const classes = `tile ${pod.state}${button.classList.contains("new") ? " new" : ""}`;
    if (button.className !== classes) button.className = classes;
    button.title = told(pod);
    button.setAttribute("aria-label", told(pod));
    if (held === pod.uid) detail.textContent = told(pod);
    return button;
  };

  const draw = () => {
    const view = model.get("view");
    if (!view.nodes) return;
    arrived = Date.now();
    title.textContent = view.title;
    mark.textContent = view.mark || "";
    mark.hidden = !view.mark;
    root.setAttribute("aria-label", `${view.title}: ${view.summary}`);
    // A tile that goes, or moves to another node, must not take the keyboard's place with it.
    const at = listed().indexOf(document.activeElement), looked = at < 0 ? null : document.activeElement;
    const places = [...view.nodes];
    if (view.pods.some((pod) => !view.nodes.some((node) => node.name === pod.node))) {
      places.push({ name: "", ready: true, note: "" });
    }
    const wanted = new Set(places.map((place) => place.name));
    for (const [name, kept] of nodes) if (!wanted.has(name)) { kept.section.remove(); nodes.delete(name); }
    const uids = new Set(view.pods.map((pod) => pod.uid));
    for (const [uid, button] of tiles) if (!uids.has(uid)) { button.remove(); tiles.delete(uid); }
    places.forEach((place, index) => {
      const { section: part, grid, label } = section(place.name);
      const state = place.name === "" ? "no node yet" : place.ready ? "ready" : place.ready === null ? "lost" : "not ready";
      part.className = `node ${place.name === "" ? "nowhere" : place.ready ? "" : "lost"}`;
      part.setAttribute("aria-label", `${place.name || "pods without a node"}, ${state}`);
      label.textContent = place.name === "" ? "no node yet" : `${place.name}${place.ready ? "" : ` – ${state}`}${place.note ? `, ${place.note}` : ""}`;
      if (boxes.children[index] !== part) boxes.insertBefore(part, boxes.children[index] || null);
      const here = view.pods.filter((pod) => (place.name === "" ? !view.nodes.some((node) => node.name === pod.node) : pod.node === place.name));
      here.forEach((pod, at) => {
        const button = drawTile(pod);
        if (grid.children[at] !== button) grid.insertBefore(button, grid.children[at] || null);
      });
    });
    const all = listed();
    if (looked && document.activeElement !== looked) {
      const next = looked.isConnected ? looked : all[Math.min(at, all.length - 1)];
      if (next) { next.tabIndex = 0; next.focus({ preventScroll: true }); }
    }
    if (all.length && !all.some((button) => button.tabIndex === 0)) all[0].tabIndex = 0;
    table.replaceChildren(make("caption", { text: view.summary }),
      make("tr", {}, ...["pod", "node", "state", "restarts"].map((text) => make("th", { scope: "col", text }))),
      ...view.pods.map((pod) => make("tr", {}, ...[pod.name, pod.node || "none", WORDS[pod.state][2], `${pod.restarts}`].map((text) => make("td", { text })))));
    help.textContent = view.help;
    time.draw();
    say(view.summary);
    root.dataset.pods = view.pods.length;
    root.dataset.mode = view.mode;
    first = false;
    tick();
  };

  const tick = () => {
    const view = model.get("view");
    if (!view.nodes) return;
    const { words, stale } = newsOf(view, arrived);
    age.textContent = words;
    root.classList.toggle("stale", stale);
    if (stale) send({ type: "ask" });
  };

  boxes.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!move) return;
    const all = listed();
    const next = all[(all.indexOf(document.activeElement) + move + all.length) % all.length];
    if (!next) return;
    all.forEach((button) => { button.tabIndex = -1; });
    next.tabIndex = 0;
    next.focus();
    event.preventDefault();
    event.stopPropagation();
  });
  const clock = setInterval(tick, 1000);
  model.on("change:view", draw);
  const stop = () => { clearInterval(clock); time.stop(); say.stop(); model.off("change:view", draw); send({ type: "close" }); };
  signal?.addEventListener("abort", stop);
  send({ type: "open" });
  draw();
  return signal ? undefined : stop;
}
export default { render };
