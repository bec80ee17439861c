// A record that can be gone through: one picture at a time, a slider, steps, play, and controls of the model.
// The picture is drawn in Python, so that it is the same here, on paper and in words. Everything that can be done
// here has a call in Python: seek(n), step(n), set(name=value), do("name").

function render({ model, el, signal }) {
  const send = sender(model, (words) => { mark.textContent = words; mark.hidden = false; time.halt(); });
  const root = make("div", { class: "podlab-replay", role: "group", "data-lm-suppress-shortcuts": "true" });
  const age = make("div", { class: "age" });
  const stage = make("div", { class: "stage" });
  const mark = make("div", { class: "mark" });
  const words = make("div", { class: "words" });
  const said = make("div", { class: "said", role: "status", "aria-live": "polite" });
  const say = speaker(said);
  const time = timebar(model, send);
  const controls = make("div", { class: "controls" });
  const help = make("div", { class: "help" });
  const table = make("table");
  const details = make("details", {}, make("summary", { text: "As a table" }), table);
  root.append(age, stage, mark, words, said, time.whole, controls, help, details);
  el.append(root);

  let arrived = Date.now();
  const inputs = new Map(); // control name -> its element
  const waits = new Map(); // control name -> what will be sent when its slider rests
  const later = (name, act) => {
    clearTimeout(waits.get(name));
    waits.set(name, setTimeout(() => { waits.delete(name); act(); }, 250));
  };

  const control = (each) => {
    if (each.kind === "do") {
      const button = make("button", { type: "button", text: each.label });
      button.addEventListener("click", () => send({ type: "do", name: each.name }));
      return [button, button];
    }
    if (each.kind === "choice") {
      const select = make("select");
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

  const offer = (select, { options, value }) => {
    const told = JSON.stringify(options), chosen = select.value;
    if (select.told === told) return;
    select.told = told;
    select.replaceChildren(...options.map((option) => make("option", { value: option, text: option })));
    select.value = options.includes(chosen) ? chosen : value;
  };

  const draw = () => {
    const view = model.get("view");
    if (view.picture === undefined) return;
    root.setAttribute("aria-label", `${view.title}: ${view.summary}`);
    const svg = new DOMParser().parseFromString(view.picture, "image/svg+xml").documentElement;
    stage.replaceChildren(document.importNode(svg, true));
    words.textContent = view.summary;
    mark.textContent = view.mark;
    mark.classList.toggle("lines", view.mark.includes("\n"));
    mark.hidden = !view.mark;
    help.textContent = view.help;
    say(view.summary);
    time.draw();
    for (const each of view.controls) {
      if (!inputs.has(each.name)) {
        const [whole, input] = control(each);
        inputs.set(each.name, input);
        controls.append(whole);
      }
      const input = inputs.get(each.name);
      if (each.kind === "choice") offer(input, each);
      const held = input.shown ? waits.has(each.name) : document.activeElement === input;
      if (each.kind !== "do" && !held) input.value = `${each.value}`;
      if (input.shown) input.shown.textContent = input.value;
    }
    table.replaceChildren(make("caption", { text: view.summary }),
      make("tr", {}, ...view.head.map((text) => make("th", { scope: "col", text }))),
      ...view.rows.map((row) => make("tr", {}, ...row.map((text) => make("td", { text })))));
    root.dataset.position = view.position;
    root.dataset.length = view.length;
    arrived = Date.now();
    tick();
  };

  const tick = () => {
    const view = model.get("view");
    const { words: told, stale } = newsOf(view, arrived);
    age.textContent = told;
    age.hidden = view.heard === undefined && view.mode !== "paused";
    root.classList.toggle("stale", stale);
    if (stale) send({ type: "ask" });
  };

  const clock = setInterval(tick, 1000);
  model.on("change:view", draw);
  const stop = () => { time.stop(); clearInterval(clock); waits.forEach(clearTimeout); say.stop(); model.off("change:view", draw); send({ type: "close" }); };
  signal?.addEventListener("abort", stop);
  send({ type: "open" });
  draw();
  return signal ? undefined : stop;
}
export default { render };
