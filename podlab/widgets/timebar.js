// The bar of every picture that has a time: Pause for one that moves by itself, play at a speed, steps, a slider, and the
// way back to now. It only sends; what a picture shows is computed in Python: pause(), seek(n), live().
const timebar = (model, send) => {
  const play = make("button", { type: "button" });
  const back = make("button", { type: "button", text: "One step back" });
  const slider = make("input", { type: "range", min: "0", "aria-label": "Moment in the record" });
  const on = make("button", { type: "button", text: "One step on" });
  const now = make("button", { type: "button", text: "Back to now" });
  const speed = make("select");
  for (const [text, value] of [["slow", 1000], ["normal", 400], ["fast", 100]]) speed.append(make("option", { value, text }));
  speed.value = matchMedia("(prefers-reduced-motion: reduce)").matches ? "1000" : "400";
  const moment = make("span", { class: "moment" });
  const whole = make("div", { class: "bar", role: "group", "aria-label": "Time" },
    play, back, slider, on, now, make("label", { text: "Speed " }, speed), moment);

  let playing = null, resting = null;
  const view = () => model.get("view");
  const moves = () => view().mode === "live" && view().follows !== false;
  const held = () => view().mode === "paused";
  // No upper bound: while a picture is held its record may have grown beyond the end that is known here.
  const seek = (position) => send({ type: "seek", position: Math.max(0, position) });
  const named = () => { play.textContent = playing || moves() ? "Pause" : "Play"; };
  const halt = () => { clearInterval(playing); playing = null; named(); };
  const run = () => { clearInterval(playing); playing = setInterval(() => seek(view().position + 1), Number(speed.value)); named(); };
  const step = (by) => () => { halt(); seek(view().position + by); };

  play.addEventListener("click", () => {
    if (playing) halt();
    else if (moves()) send({ type: "pause" });
    else {
      if (!held() && view().position >= view().length) seek(0);
      run();
    }
  });
  back.addEventListener("click", step(-1));
  on.addEventListener("click", step(1));
  now.addEventListener("click", () => { halt(); send({ type: "live" }); });
  speed.addEventListener("change", () => { if (playing) run(); });
  slider.addEventListener("input", () => {
    halt();
    clearTimeout(resting);
    resting = setTimeout(() => { resting = null; seek(Number(slider.value)); }, 100);
  });

  const draw = () => {
    const { position, length, moment: words } = view();
    whole.hidden = length === 0 && !moves() && !held();
    slider.max = `${length}`;
    if (resting === null) slider.value = `${position}`;
    moment.textContent = held() ? "" : words; // then it is written above
    slider.setAttribute("aria-valuetext", words || `${position} of ${length}`);
    if (playing && (moves() || position >= length)) halt();
    named();
    // A button that goes away must not take the keyboard's place with it.
    if (!held() && document.activeElement === now) play.focus();
    now.hidden = !held();
  };
  return { whole, draw, halt, stop: () => { halt(); clearTimeout(resting); } };
};

