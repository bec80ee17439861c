// What JupyterLab does for the course: tiles in its launcher and entries in its command palette, one for each lesson and
// each assignment; and pictures that stay. This is a whole prebuilt extension, written by hand, so that nothing has to be built: JupyterLab asks the container
// for "./extension" and hands over the modules that it shares. What there is to open stands in the page's configuration
// (jupyter_server_config.py), as text.
(() => {
  let shared = null;

  // A module of JupyterLab's own, in the one version that is loaded.
  const module = async (name) => {
    const versions = Object.values(shared[name] || {});
    if (!versions.length) throw new Error(`Threads to Pods: this JupyterLab does not share ${name}`);
    return (await versions[0].get())();
  };

  const told = () => {
    const config = document.getElementById("jupyter-config-data");
    return JSON.parse(JSON.parse(config.textContent).podlabTiles || "[]");
  };

  const picture = (tile) => {
    const [paper, ink] = tile.kind === "lesson" ? ["#0072b2", "#ffffff"] : ["#ffffff", "#0072b2"];
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect x="2" y="2" width="20" height="20" rx="4"
      fill="${paper}" stroke="#0072b2" stroke-width="2"/><text x="12" y="16.5" text-anchor="middle" font-size="12"
      font-weight="700" font-family="sans-serif" fill="${ink}">${tile.number}</text></svg>`;
  };

  const tiles = ({ ILauncher }, { ICommandPalette }, { LabIcon }) => ({
    id: "threads-to-pods:tiles",
    autoStart: true,
    optional: [ILauncher, ICommandPalette],
    activate: (app, launcher, palette) => {
      told().forEach((tile, rank) => {
        const command = `threads-to-pods:${tile.kind}-${tile.number}`;
        app.commands.addCommand(command, {
          label: ({ isPalette }) => (isPalette ? `${tile.number} ${tile.title}: ${tile.kind}`
            : tile.kind === "lesson" ? tile.title : `Exercises ${tile.number}`),
          caption: tile.caption,
          icon: new LabIcon({ name: command, svgstr: picture(tile) }),
          execute: () => app.commands.execute("docmanager:open", { path: tile.path }),
        });
        // JupyterLab shows its own categories first, so ours are in one, before the tile for an empty notebook. Tiles
        // in it get their picture by address.
        const kernelIconUrl = `data:image/svg+xml,${encodeURIComponent(picture(tile))}`;
        launcher?.add({ command, category: "Notebook", rank: rank - 1000, kernelIconUrl });
        palette?.addItem({ command, category: "Threads to Pods", args: { isPalette: true }, rank });
      });
    },
  });

  // A widget whose kernel is gone shows "model not found" in place of itself. The saved output has its picture too.
  const LOST = "Error displaying widget";
  const stills = ({ INotebookTracker }) => ({
    id: "threads-to-pods:stills",
    autoStart: true,
    requires: [INotebookTracker],
    activate: (app, tracker) => {
      tracker.widgetAdded.connect((_, panel) => {
        const saved = (node) => {
          for (const { outputArea: area } of panel.content.widgets) {
            const at = area ? area.widgets.findIndex((output) => output.node.contains(node)) : -1;
            if (at >= 0) return area.model.get(at).toJSON().data?.["text/html"];
          }
          return undefined;
        };
        const mend = (node) => {
          const text = [saved(node) || ""].flat().join("");
          // Only a picture with its words is taken over: a notebook may come from anywhere.
          const found = new DOMParser().parseFromString(text, "text/html").querySelector("img[alt]");
          if (!found || !found.getAttribute("src")?.startsWith("data:image/svg+xml")) return;
          const image = document.createElement("img");
          image.alt = found.alt;
          image.src = found.getAttribute("src");
          image.style.maxWidth = "100%";
          const note = document.createElement("p");
          note.textContent = "As it was when it was saved. Run the notebook again for the live picture.";
          node.replaceChildren(image, note);
        };
        const watch = new MutationObserver((changes) => {
          for (const { target } of changes) {
            if (target.classList?.contains("jupyter-widgets") && target.textContent.startsWith(LOST)) mend(target);
          }
        });
        watch.observe(panel.content.node, { childList: true, subtree: true });
        panel.disposed.connect(() => watch.disconnect());
      });
    },
  });

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["threads-to-pods"] = {
    init: (scope) => { shared = scope; },
    get: async () => {
      const [launcher, apputils, icons, notebook] = await Promise.all(
        ["launcher", "apputils", "ui-components", "notebook"].map((name) => module(`@jupyterlab/${name}`)));
      return () => ({ __esModule: true, default: [tiles(launcher, apputils, icons), stills(notebook)] });
    },
  };
})();
