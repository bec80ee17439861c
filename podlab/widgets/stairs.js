// The restart staircase: one step up per restart, a bar for each time in which a pod was not ready.
const SVG = "http://www.w3.org/2000/svg";
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};
const html = (tag, text, attributes = {}) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

function render({ model, el, signal }) {
  const root = html("div", undefined, { class: "podlab-stairs", "data-lm-suppress-shortcuts": "true" });
  const title = html("strong");
  const holder = html("div");
  const words = html("div");
  const details = html("details");
  const table = html("table");
  details.append(html("summary", "As a table"), table);
  root.append(title, holder, words, details);
  el.append(root);

  const draw = () => {
    const view = model.get("view");
    if (!view.stairs) return;
    const rows = view.stairs, width = 640, left = 190, high = 34, top = 8;
    const height = top + rows.length * high + 30, end = Math.max(view.end, 10);
    const x = (seconds) => left + (width - left - 14) * Math.min(1, seconds / end);
    title.textContent = view.title;
    words.textContent = view.summary;
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${view.title}: ${view.summary}`, width: "100%" });
    rows.forEach((row, index) => {
      const base = top + (index + 1) * high - 6;
      const last = row.steps[row.steps.length - 1][1], first = row.steps[0][1];
      const y = (count) => base - Math.min(20, (count - first) * 8);
      const until = row.gone ?? end;
      svg.append(make("text", { x: 4, y: base - 4, "font-size": 11, fill: "currentColor", text: `${row.name.slice(-24)}` }));
      for (const outage of row.outages) {
        const stop = outage.end ?? until;
        svg.append(make("rect", { x: x(outage.start), y: base - 22, width: Math.max(2, x(stop) - x(outage.start)), height: 22, fill: "#e69f00", "fill-opacity": 0.45, stroke: "#7a5400", "stroke-dasharray": "3 2" }));
        svg.append(make("text", { x: x(outage.start) + 2, y: base - 11, "font-size": 10, fill: "currentColor", text: outage.end === null ? "…" : `${(outage.end - outage.start).toFixed(1)} s` }));
      }
      let path = `M ${x(row.born)} ${y(first)}`;
      for (const [at, count] of row.steps.slice(1)) path += ` H ${x(at)} V ${y(count)}`;
      svg.append(make("path", { d: `${path} H ${x(until)}`, fill: "none", stroke: "#0072b2", "stroke-width": 2.5 }));
      svg.append(make("text", { x: x(until) + 2, y: y(last) + 4, "font-size": 11, fill: "currentColor", text: `${last}` }));
    });
    const axis = height - 20;
    svg.append(make("line", { x1: left, x2: width - 14, y1: axis, y2: axis, stroke: "currentColor" }));
    for (let part = 0; part <= 4; part += 1) {
      const seconds = (end * part) / 4;
      svg.append(make("text", { x: x(seconds), y: axis + 14, "font-size": 10, "text-anchor": "middle", fill: "currentColor", text: `${seconds.toFixed(0)} s` }));
    }
    holder.replaceChildren(svg);
    const head = html("tr");
    for (const text of ["pod", "restarts", "times not ready (s)"]) head.append(html("th", text, { scope: "col" }));
    table.replaceChildren(html("caption", view.summary), head, ...rows.map((row) => {
      const line = html("tr");
      const gone = row.outages.map((outage) => (outage.end === null ? "still" : (outage.end - outage.start).toFixed(1))).join(", ");
      for (const text of [row.name, `${row.steps[row.steps.length - 1][1]}`, gone || "none"]) line.append(html("td", text));
      return line;
    }));
    root.dataset.pods = rows.length;
  };
  model.on("change:view", draw);
  const stop = () => {
    model.off("change:view", draw);
    // A kernel that was restarted knows nothing of this picture any more.
    try { model.send({ type: "close" }); } catch { root.dataset.gone = "true"; }
  };
  signal?.addEventListener("abort", stop);
  model.send({ type: "open" });
  draw();
  return signal ? undefined : stop;
}
export default { render };
