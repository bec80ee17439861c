// A record that can be gone through: one picture at a time, a slider, steps, play, and controls of the model.
// The picture is drawn in Python, so that it is the same here, on paper and in words. Everything that can be done
// here has a call in Python: seek(n), step(n), set(name=value), do("name").

function render({ model, el, signal }) {
  const send = sender(model, (words) => { mark.textContent = words; mark.hidden = false; halt(); });
  const root = make("div", { class: "podlab-replay", role: "group", "data-lm-suppress-shortcuts": "true" });
  const moment = make("span", { class: "moment" });
  const age = make("div", { class: "age" });
  const stage = make("div", { class: "stage" });
  const mark = make("div", { class: "mark" });
  const words = make("div", { class: "words" });
  const said = make("div", { class: "said", role: "status", "aria-live": "polite" });
  const say = speaker(said);
  const play = make("button", { type: "button", text: "Play" });
  const back = make("button", { type: "button", text: "One step back" });
  const on = make("button", { type: "button", text: "One step on" });
  const slider = make("input", { type: "range", min: "0", "aria-label": "Moment in the record" });
  const speed = make("select");
  for (const [words, pause] of [["slow", 1000], ["normal", 400], ["fast", 100]]) speed.append(make("option", { value: pause, text: words }));
  speed.value = "400";
  const bar = make("div", { class: "bar" }, play, back, slider, on, make("label", { text: "Speed " }, speed), moment);
  const controls = make("div", { class: "controls" });
  const help = make("div", { class: "help" });
  const table = make("table");
  const details = make("details", {}, make("summary", { text: "As a table" }), table);
  root.append(age, stage, mark, words, said, bar, controls, help, details);
  el.append(root);

  let playing = null, arrived = Date.now();
  const inputs = new Map(); // control name -> its element
  const waits = new Map(); // control name ("" the moment) -> what will be sent when its slider rests
  const later = (name, act) => {
    clearTimeout(waits.get(name));
    waits.set(name, setTimeout(() => { waits.delete(name); act(); }, name ? 250 : 100));
  };

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
      later(each.name, () => send({ type: "set", name: each.name, value: Number(input.value) }));
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
    mark.classList.toggle("lines", view.mark.includes("\n"));
    mark.hidden = !view.mark;
    help.textContent = view.help;
    say(view.summary);
    slider.max = `${view.length}`;
    if (!waits.has("")) slider.value = `${view.position}`;
    slider.setAttribute("aria-valuetext", view.moment || `${view.position} of ${view.length}`);
    bar.hidden = view.length === 0;
    for (const each of view.controls) {
      if (!inputs.has(each.name)) {
        const [whole, input] = control(each);
        inputs.set(each.name, input);
        controls.append(whole);
      }
      const input = inputs.get(each.name);
      const held = input.shown ? waits.has(each.name) : document.activeElement === input;
      if (each.kind !== "do" && !held) input.value = `${each.value}`;
      if (input.shown) input.shown.textContent = input.value;
    }
    table.replaceChildren(make("caption", { text: view.summary }),
      make("tr", {}, ...view.head.map((text) => make("th", { scope: "col", text }))),
      ...view.rows.map((row) => make("tr", {}, ...row.map((text) => make("td", { text })))));
    root.dataset.position = view.position;
    root.dataset.length = view.length;
    if (playing && view.position >= view.length) halt();
    arrived = Date.now();
    tick();
  };

  const tick = () => {
    const view = model.get("view");
    const { words: told, stale } = newsOf(view, arrived);
    age.textContent = told;
    age.hidden = view.heard === undefined;
    root.classList.toggle("stale", stale);
    if (stale) send({ type: "ask" });
  };

  const seek = (position) => send({ type: "seek", position: Math.max(0, Math.min(Number(slider.max), position)) });
  const here = () => model.get("view").position;
  const halt = () => { clearInterval(playing); playing = null; play.textContent = "Play"; };
  const run = () => { clearInterval(playing); playing = setInterval(() => seek(here() + 1), Number(speed.value)); };
  play.addEventListener("click", () => {
    if (playing) { halt(); return; }
    play.textContent = "Pause";
    if (here() >= model.get("view").length) seek(0);
    run();
  });
  speed.addEventListener("change", () => { if (playing) run(); });
  back.addEventListener("click", () => { halt(); seek(here() - 1); });
  on.addEventListener("click", () => { halt(); seek(here() + 1); });
  slider.addEventListener("input", () => {
    halt();
    later("", () => seek(Number(slider.value)));
  });
  const clock = setInterval(tick, 1000);
  model.on("change:view", draw);
  const stop = () => { halt(); clearInterval(clock); waits.forEach(clearTimeout); say.stop(); model.off("change:view", draw); send({ type: "close" }); };
  signal?.addEventListener("abort", stop);
  send({ type: "open" });
  draw();
  return signal ? undefined : stop;
}
export default { render };
