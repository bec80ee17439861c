// A record that can be gone through: one picture at a time, a slider, steps, play, and controls of the model.
// The picture is drawn in Python, so that it is the same here, on paper and in words. Everything that can be done
// here has a call in Python: seek(n), step(n), set(name=value), do("name").
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};

const GONE = "The kernel of this picture is gone. Run the cell again for one that answers.";

function render({ model, el, signal }) {
  const send = (message) => {
    // A kernel that was restarted knows nothing of this picture any more.
    try { model.send(message); } catch { mark.textContent = GONE; mark.hidden = false; halt(); }
  };
  const root = make("div", { class: "podlab-replay", role: "group", "data-lm-suppress-shortcuts": "true" });
  const moment = make("span", { class: "moment" });
  const stage = make("div", { class: "stage" });
  const mark = make("div", { class: "mark" });
  const words = make("div", { class: "words" });
  const said = make("div", { class: "said", role: "status", "aria-live": "polite" });
  const play = make("button", { type: "button", text: "Play" });
  const back = make("button", { type: "button", text: "One step back" });
  const on = make("button", { type: "button", text: "One step on" });
  const slider = make("input", { type: "range", min: "0", "aria-label": "Moment in the record" });
  const bar = make("div", { class: "bar" }, play, back, slider, on, moment);
  const controls = make("div", { class: "controls" });
  const help = make("div", { class: "help" });
  const table = make("table");
  const details = make("details", {}, make("summary", { text: "As a table" }), table);
  root.append(stage, mark, words, said, bar, controls, help, details);
  el.append(root);

  let playing = null, wait = null, lastSaid = 0;
  const inputs = new Map(); // control name -> its element
  const later = (message) => { clearTimeout(wait); wait = setTimeout(() => send(message), 250); };

  const control = (each) => {
    if (each.kind === "do") {
      const button = make("button", { type: "button", text: each.label });
      button.addEventListener("click", () => send({ type: "do", name: each.name }));
      return [button, button];
    }
    if (each.kind === "choice") {
      const select = make("select");
      for (const option of each.options) select.append(make("option", { value: option, text: option }));
      select.addEventListener("change", () => send({ type: "set", name: each.name, value: select.value }));
      return [make("label", {}, `${each.label} `, select), select];
    }
    if (each.kind === "words") {
      const input = make("input", { type: "text", size: "70", spellcheck: "false", autocomplete: "off" });
      input.addEventListener("change", () => send({ type: "set", name: each.name, value: input.value }));
      return [make("label", {}, `${each.label} `, input), input];
    }
    const input = make("input", { type: "range", min: each.least, max: each.most, step: each.step });
    const shown = make("output");
    input.addEventListener("input", () => {
      shown.textContent = input.value;
      later({ type: "set", name: each.name, value: Number(input.value) });
    });
    input.shown = shown;
    return [make("label", {}, `${each.label} `, input, shown), input];
  };

  const draw = () => {
    const view = model.get("view");
    if (view.picture === undefined) return;
    moment.textContent = view.moment;
    root.setAttribute("aria-label", `${view.title}: ${view.summary}`);
    const svg = new DOMParser().parseFromString(view.picture, "image/svg+xml").documentElement;
    stage.replaceChildren(document.importNode(svg, true));
    words.textContent = view.summary;
    mark.textContent = view.mark;
    mark.hidden = !view.mark;
    help.textContent = view.help;
    if (Date.now() - lastSaid > 2000) { said.textContent = view.summary; lastSaid = Date.now(); }
    slider.max = `${view.length}`;
    if (document.activeElement !== slider || wait === null) slider.value = `${view.position}`;
    slider.setAttribute("aria-valuetext", view.moment || `${view.position} of ${view.length}`);
    bar.hidden = view.length === 0;
    for (const each of view.controls) {
      if (!inputs.has(each.name)) {
        const [whole, input] = control(each);
        inputs.set(each.name, input);
        controls.append(whole);
      }
      const input = inputs.get(each.name);
      if (each.kind !== "do" && document.activeElement !== input) input.value = `${each.value}`;
      if (input.shown) input.shown.textContent = input.value;
    }
    table.replaceChildren(make("caption", { text: view.summary }),
      make("tr", {}, ...view.head.map((text) => make("th", { scope: "col", text }))),
      ...view.rows.map((row) => make("tr", {}, ...row.map((text) => make("td", { text })))));
    root.dataset.position = view.position;
    root.dataset.length = view.length;
    if (playing && view.position >= view.length) halt();
  };

  const seek = (position) => send({ type: "seek", position: Math.max(0, Math.min(Number(slider.max), position)) });
  const here = () => model.get("view").position;
  const halt = () => { clearInterval(playing); playing = null; play.textContent = "Play"; };
  play.addEventListener("click", () => {
    if (playing) { halt(); return; }
    play.textContent = "Pause";
    if (here() >= model.get("view").length) seek(0);
    playing = setInterval(() => seek(here() + 1), 400);
  });
  back.addEventListener("click", () => { halt(); seek(here() - 1); });
  on.addEventListener("click", () => { halt(); seek(here() + 1); });
  slider.addEventListener("input", () => {
    halt();
    clearTimeout(wait);
    wait = setTimeout(() => { wait = null; seek(Number(slider.value)); }, 100);
  });
  model.on("change:view", draw);
  const stop = () => { halt(); clearTimeout(wait); model.off("change:view", draw); send({ type: "close" }); };
  signal?.addEventListener("abort", stop);
  send({ type: "open" });
  draw();
  return signal ? undefined : stop;
}
export default { render };
