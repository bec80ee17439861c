// What stands before every module (see news.py): elements, how old the news are, what is said aloud, a kernel that is gone.
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
// A kernel that was restarted knows nothing of a picture any more: `gone` is then given the words for it. Pictures
// whose news are old send { type: "ask" }, which no kernel minds, to find that out.
const sender = (model, gone) => (message) => { try { model.send(message); } catch { gone(GONE); } };

// A watched picture's state in words, and whether what it shows is too old to be believed. `arrived`: when it came (ms).
const newsOf = (view, arrived) => {
  if (view.mode === "paused") return { words: view.moment ? `paused at ${view.moment}` : "paused", stale: false };
  if (view.mode !== "live" || view.heard === undefined) return { words: view.mode, stale: false };
  const seconds = (Date.now() - arrived) / 1000 + Math.max(0, view.now - view.heard);
  const words = view.error ? `no news: ${view.error}` : `live, ${seconds.toFixed(0)} s old`;
  return { words, stale: seconds > 5 || Boolean(view.error) };
};

// Says texts aloud, at most one in two seconds. The last one of many waits for its turn, and is not lost.
const speaker = (element) => {
  let last = 0, turn = null;
  const say = (text) => {
    clearTimeout(turn);
    if (element.textContent === text) return;
    const rest = last + 2000 - Date.now();
    if (rest > 0) { turn = setTimeout(() => say(text), rest); return; }
    element.textContent = text;
    last = Date.now();
  };
  say.stop = () => clearTimeout(turn);
  return say;
};

