"use strict";
(() => {
  document.documentElement.classList.add("scripted");
  const items = [...document.querySelectorAll(".item")];
  const chooser = document.getElementById("contender");
  if (!items.length || !chooser) return;
  const lefts = document.getElementById("left"), ranking = document.getElementById("ranking");
  const absent = document.getElementById("absent");
  const modes = [...document.querySelectorAll("[data-mode].stage, .modes [data-mode]")];
  const hint = document.getElementById("hint");
  let mode = "slide";

  const parts = new Map(items.map((item) => [item, {
    view: item.querySelector(".view"), stage: item.querySelector(".stage"), pictures: item.querySelector(".pictures"),
    wipe: item.querySelector("input"), reading: item.querySelector(".reading"), right: item.querySelector(".right"),
    picks: [...item.querySelectorAll(".pick")], original: item.querySelector(".original img"), picked: 0,
    reason: item.querySelector(".reason"), left: item.querySelector(".left"),
    ranks: JSON.parse(item.dataset.ranks),
  }]));

  const copy = (source, kind) => {
    const picture = document.createElement("img");
    picture.alt = source.alt;
    picture.className = kind;
    if (source.dataset.full) { // the whole picture lies beside the page, and is read when it comes into sight
      picture.loading = "lazy";
      picture.addEventListener("error", () => { picture.src = source.src; absent.hidden = false; }, { once: true });
    }
    picture.src = source.dataset.full || source.src;
    return picture;
  };

  function show(item) {
    const part = parts.get(item), pick = part.picks[part.picked];
    const map = mode === "tokens" ? pick.querySelector(".map") : null;
    const other = copy(map || pick.querySelector(".picture"), map ? "other pixelated" : "other");
    const place = Number(lefts.value);
    part.pictures.replaceChildren(copy(place < 0 ? part.original : part.picks[place].querySelector(".picture"), "reference"), other);
    part.left.textContent = lefts.selectedOptions[0].text;
    part.stage.dataset.mode = mode;
    part.view.classList.toggle("still", mode === "flip" || mode === "difference");
    part.right.textContent = (mode === "difference" ? `${lefts.selectedOptions[0].text} less ` : mode === "tokens" ? "tokens of " : "") + chooser.options[part.picked].text;
    part.reading.textContent = mode === "tokens" && !map ? "This one has no tokens." : "";
    part.picks.forEach((each, place) => each.setAttribute("aria-pressed", String(place === part.picked)));
  }

  function setMode(next) {
    mode = next;
    for (const button of modes) {
      const chosen = button.dataset.mode === mode;
      button.setAttribute("aria-pressed", String(chosen));
      if (chosen) hint.textContent = button.dataset.hint;
    }
    document.body.classList.toggle("showing-tokens", mode === "tokens");
    items.forEach(show);
  }

  function choose(place) {
    chooser.selectedIndex = place;
    for (const item of items) { parts.get(item).picked = place; show(item); }
  }

  // Worst and best by another metric: other items, in another order, with its scores.
  function rank(metric) {
    const shown = items.filter((item) => metric in parts.get(item).ranks);
    shown.sort((a, b) => parts.get(a).ranks[metric][0] - parts.get(b).ranks[metric][0]);
    const home = items[0].parentNode;
    for (const item of items) item.hidden = !shown.includes(item);
    home.append(...shown, ...items.filter((item) => item.hidden));
    for (const item of shown) {
      const part = parts.get(item);
      part.reason.textContent = part.ranks[metric][1];
      for (const pick of part.picks) {
        const score = pick.parentNode.querySelector(".score");
        score.textContent = JSON.parse(score.dataset.scores)[metric] ?? "";
      }
    }
  }

  function readToken(item, event) {
    const part = parts.get(item), map = part.picks[part.picked].querySelector(".map");
    if (mode !== "tokens" || !map) return;
    if (!map.tokens) {
      const bytes = Uint8Array.from(atob(map.dataset.tokens), (letter) => letter.charCodeAt(0));
      map.tokens = new DataView(bytes.buffer);
    }
    const columns = Number(map.dataset.columns), groups = Number(map.dataset.groups);
    const rows = map.tokens.byteLength / 4 / columns / groups;
    const box = part.stage.getBoundingClientRect();
    const within = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    const column = within((event.clientX - box.left) / box.width, columns);
    const row = within((event.clientY - box.top) / box.height, rows);
    const found = Array.from({ length: groups }, (_, group) => map.tokens.getUint32(4 * ((row * columns + column) * groups + group), true));
    part.reading.textContent = `row ${row}, column ${column}: token ${found.join(", ")}`;
  }

  function wipeTo(item, event) {
    const part = parts.get(item), box = part.stage.getBoundingClientRect();
    part.wipe.value = String(Math.round(100 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))));
    part.stage.style.setProperty("--wipe", `${part.wipe.value}%`);
  }

  for (const item of items) {
    const part = parts.get(item);
    part.wipe.addEventListener("input", () => part.stage.style.setProperty("--wipe", `${part.wipe.value}%`));
    part.stage.tabIndex = 0;
    part.stage.setAttribute("role", "group");
    part.stage.setAttribute("aria-label", `Comparison of ${item.querySelector("h3").textContent}`);
    part.stage.addEventListener("pointerdown", (event) => {
      if (mode === "flip") part.stage.classList.toggle("flipped");
      else if (mode !== "difference") { part.stage.setPointerCapture(event.pointerId); wipeTo(item, event); }
      readToken(item, event);
    });
    part.stage.addEventListener("pointermove", (event) => {
      if (part.stage.hasPointerCapture(event.pointerId)) wipeTo(item, event);
      readToken(item, event);
    });
    part.stage.addEventListener("keydown", (event) => {
      if (event.key === " " && mode === "flip") { part.stage.classList.toggle("flipped"); event.preventDefault(); }
      const step = { ArrowLeft: -2, ArrowRight: 2 }[event.key];
      if (step && (mode === "slide" || mode === "tokens")) {
        part.wipe.value = String(Number(part.wipe.value) + step);
        part.stage.style.setProperty("--wipe", `${part.wipe.value}%`);
        event.preventDefault();
      }
    });
    part.picks.forEach((pick, place) => pick.addEventListener("click", () => { part.picked = place; show(item); }));
  }
  modes.forEach((button) => button.addEventListener("click", () => setMode(button.dataset.mode)));
  chooser.addEventListener("change", () => choose(chooser.selectedIndex));
  lefts.addEventListener("change", () => items.forEach(show));
  if (ranking) { ranking.addEventListener("change", () => rank(ranking.value)); rank(ranking.value); }

  // One sound at a time, and a change of model keeps its place: what differs is then heard at the same word.
  document.addEventListener("play", (event) => {
    const item = event.target.closest(".item");
    for (const other of document.querySelectorAll("audio")) {
      if (other === event.target || other.paused) continue;
      if (other.closest(".item") === item) event.target.currentTime = other.currentTime;
      other.pause();
    }
  }, true);

  setMode("slide");
})();
