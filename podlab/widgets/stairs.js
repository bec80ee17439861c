// The restart staircase: one step up per restart, a bar for each time in which a pod was not ready.
const SVG = "http://www.w3.org/2000/svg";
const shape = (tag, attributes = {}, ...children) => {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};
const STEP = { fill: "none", stroke: "#0072b2", "stroke-width": 2.5 };
const OUTAGE = { fill: "#e69f00", "fill-opacity": 0.45, stroke: "#7a5400", "stroke-dasharray": "3 2" };
const sample = (words, ...shapes) => make("span", {}, shape("svg", { width: 24, height: 16, "aria-hidden": "true" }, ...shapes), ` ${words}`);

function render({ model, el, signal }) {
  const root = make("div", { class: "podlab-stairs", role: "group", "data-lm-suppress-shortcuts": "true" });
  const title = make("strong");
  const age = make("span", { class: "age" });
  const holder = make("div", { class: "stage" });
  const words = make("div");
  const live = make("div", { class: "live", role: "status", "aria-live": "polite" });
  const say = speaker(live);
  const mark = make("div", { class: "mark" });
  mark.hidden = true;
  const send = sender(model, (told) => { mark.textContent = told; mark.hidden = false; time.halt(); });
  const time = timebar(model, send);
  const help = make("div", { class: "help" });
  const legend = make("div", { class: "legend", role: "group", "aria-label": "Legend" },
    sample("restarts, one step up for each", shape("path", { d: "M 2 12 H 12 V 4 H 22", ...STEP })),
    sample("not ready, for so many seconds", shape("rect", { x: 2, y: 2, width: 20, height: 12, ...OUTAGE })));
  const table = make("table");
  const details = make("details", {}, make("summary", { text: "As a table" }), table);
  root.append(make("div", { class: "head" }, title, age), holder, words, mark, live, time.whole, legend, help, details);
  el.append(root);
  let arrived = Date.now();

  const draw = () => {
    const view = model.get("view");
    if (!view.stairs) return;
    const rows = view.stairs, width = 640, left = 190, high = 34, top = 8;
    const height = top + rows.length * high + 30, end = Math.max(view.end, 10);
    const x = (seconds) => left + (width - left - 14) * Math.min(1, seconds / end);
    title.textContent = view.title;
    words.textContent = view.summary;
    mark.textContent = view.mark || "";
    mark.hidden = !view.mark;
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${view.title}: ${view.summary}`, width: "100%" });
    rows.forEach((row, index) => {
      const base = top + (index + 1) * high - 6;
      const last = row.steps[row.steps.length - 1][1], first = row.steps[0][1];
      const y = (count) => base - Math.min(20, (count - first) * 8);
      const until = row.gone ?? end;
      svg.append(shape("text", { x: 4, y: base - 4, "font-size": 11, fill: "currentColor", text: `${row.name.slice(-24)}` }));
      for (const outage of row.outages) {
        const stop = outage.end ?? until;
        // At the right edge the words would lie on the number of restarts.
        const beside = x(outage.start) > width - 80 ? { x: x(outage.start) - 3, "text-anchor": "end" } : { x: x(outage.start) + 2 };
        svg.append(shape("rect", { x: x(outage.start), y: base - 22, width: Math.max(2, x(stop) - x(outage.start)), height: 22, ...OUTAGE }));
        svg.append(shape("text", { ...beside, y: base - 11, "font-size": 10, fill: "currentColor", text: outage.end === null ? "…" : `${(outage.end - outage.start).toFixed(1)} s` }));
      }
      let path = `M ${x(row.born)} ${y(first)}`;
      for (const [at, count] of row.steps.slice(1)) path += ` H ${x(at)} V ${y(count)}`;
      svg.append(shape("path", { d: `${path} H ${x(until)}`, ...STEP }));
      svg.append(shape("text", { x: x(until) + 2, y: y(last) + 4, "font-size": 11, fill: "currentColor", text: `${last}` }));
    });
    const axis = height - 20;
    svg.append(shape("line", { x1: left, x2: width - 14, y1: axis, y2: axis, stroke: "currentColor" }));
    for (let part = 0; part <= 4; part += 1) {
      const seconds = (end * part) / 4;
      svg.append(shape("text", { x: x(seconds), y: axis + 14, "font-size": 10, "text-anchor": "middle", fill: "currentColor", text: `${seconds.toFixed(0)} s` }));
    }
    holder.replaceChildren(svg);
    table.replaceChildren(make("caption", { text: view.summary }),
      make("tr", {}, ...["pod", "restarts", "times not ready (s)"].map((text) => make("th", { scope: "col", text }))),
      ...rows.map((row) => {
        const gone = row.outages.map((outage) => (outage.end === null ? "still" : (outage.end - outage.start).toFixed(1))).join(", ");
        return make("tr", {}, ...[row.name, `${row.steps[row.steps.length - 1][1]}`, gone || "none"].map((text) => make("td", { text })));
      }));
    help.textContent = view.help;
    time.draw();
    say(view.summary);
    arrived = Date.now();
    tick();
    root.dataset.pods = rows.length;
  };

  const tick = () => {
    const { words: told, stale } = newsOf(model.get("view"), arrived);
    age.textContent = told;
    root.classList.toggle("stale", stale);
    if (stale) send({ type: "ask" });
  };
  const clock = setInterval(tick, 1000);
  model.on("change:view", draw);
  const stop = () => { clearInterval(clock); time.stop(); say.stop(); model.off("change:view", draw); send({ type: "close" }); };
  signal?.addEventListener("abort", stop);
  send({ type: "open" });
  draw();
  return signal ? undefined : stop;
}
export default { render };
