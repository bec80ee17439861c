// The status page, looked at every two seconds while the box is ticked. Everything works without this.
const box = document.getElementById("live");
box.closest("label").hidden = false;
const look = async () => {
  try {
    const text = await (await fetch(location.href)).text();
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("status");
    if (fresh && box.checked) document.getElementById("status").replaceWith(fresh);
  } finally {
    if (box.checked) setTimeout(look, 2000);
  }
};
box.addEventListener("change", () => box.checked && look());
