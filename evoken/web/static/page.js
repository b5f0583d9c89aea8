// What the page does beyond HTML: parts that change are asked for again, files are dropped, and an
// iterate is laid over a picture. Without this script everything can still be done.
"use strict";

const EVERY = 1000; // ms between two looks at a part that changes
const opened = new Date();

// Parts that change: the server answers 304 where nothing did. Only the pieces (with ids) that are
// others than before are put in, so that focus, scroll and what is open stay.
async function look(part) {
  if (document.hidden) return;
  const headers = part.dataset.tag ? { "If-None-Match": part.dataset.tag } : {};
  let answer;
  try {
    answer = await fetch(part.dataset.live, { headers, credentials: "same-origin" });
  } catch {
    missed(part, "evoken web does not answer"); // for a moment, or for good
    return;
  }
  if (answer.status === 304) { missed(part, ""); return; }
  if (!answer.ok) { missed(part, "This page is no longer up to date. Load it again"); return; }
  missed(part, "");
  part.dataset.tag = answer.headers.get("ETag") || "";
  const made = document.createElement("template");
  made.innerHTML = await answer.text();
  const before = said(part);
  put(part, made.content);
  const now = said(part);
  if (now !== before) document.getElementById("said").textContent = now;
}

// After three looks without an answer, a line says since when nothing is new.
function missed(part, why) {
  const line = document.getElementById("missed");
  if (!why) {
    part.seen = new Date();
    part.missed = 0;
    if (line && line.dataset.of === part.dataset.live) line.remove();
    return;
  }
  part.missed = (part.missed || 0) + 1;
  if (part.missed < 3 || line) return;
  const since = (part.seen || opened).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const made = document.createElement("p");
  made.id = "missed";
  made.className = "refused";
  made.setAttribute("role", "alert");
  made.dataset.of = part.dataset.live;
  made.textContent = `${why}: what you see is of ${since}.`;
  document.getElementById("main").prepend(made);
}

// What is read out to those who do not see it, once it is another: a state, but no counter.
function said(part) {
  return [...part.querySelectorAll("[data-say], [role=alert]")].map((e) => e.textContent.trim()).join(" ");
}

function put(part, made) {
  const focused = document.activeElement && part.contains(document.activeElement) ? document.activeElement : null;
  const before = new Map([...part.children].map((piece) => [piece.id || piece.className, piece]));
  const pieces = [...made.children];
  const kept = pieces.map((piece) => {
    const old = before.get(piece.id || piece.className);
    const text = piece.outerHTML;
    if (old && old.dataset && old.madeOf === text) return old;
    if (old && old.madeOf === undefined && old.outerHTML === text) { old.madeOf = text; return old; }
    if (old) keepOpen(old, piece);
    piece.madeOf = text;
    return piece;
  });
  if (kept.every((piece, i) => part.children[i] === piece) && part.children.length === kept.length) return;
  kept.forEach((piece, i) => { if (part.children[i] !== piece) part.insertBefore(piece, part.children[i] || null); });
  while (part.children.length > kept.length) part.lastElementChild.remove();
  if (focused && !document.contains(focused)) again(part, focused);
  begin(part);
}

// Where an element stands in a piece: in what has an id, such as a job of a list, or else in the
// whole piece, the how manieth of its kind.
function place(element, piece) {
  const near = element.closest("[id]"), home = near && piece.contains(near) ? near : piece;
  return `${home.id} ${[...home.querySelectorAll(element.tagName)].indexOf(element)}`;
}

function keepOpen(old, piece) {
  const details = (root) => [root, ...root.querySelectorAll("details")].filter((d) => d.matches("details"));
  const open = new Set(details(old).filter((d) => d.open).map((d) => place(d, old)));
  for (const d of details(piece)) { if (open.has(place(d, piece))) d.open = true; }
  for (const field of old.querySelectorAll("input[name], select[name]")) {
    const same = [...piece.querySelectorAll(`[name="${CSS.escape(field.name)}"]`)];
    if (field.type === "radio") {
      const mine = same.find((f) => f.value === field.value);
      if (field.checked && mine && old.dataset.chosen) { mine.checked = true; piece.dataset.chosen = "1"; }
    } else if (same[0] && field.value !== field.defaultValue) same[0].value = field.value;
  }
}

function again(part, focused) {
  const home = (e) => (e.parentElement.closest("[id]") || part).id;
  const like = focused.id ? part.querySelector(`#${CSS.escape(focused.id)}`)
    : [...part.querySelectorAll(focused.tagName)].find((e) => home(e) === home(focused) && e.textContent === focused.textContent && e.name === focused.name && e.value === focused.value);
  if (like) like.focus({ preventScroll: true });
}

// Files that are dropped or chosen, as small pictures.
function drop(area) {
  const input = area.querySelector("input[type=file]");
  const list = area.querySelector("[data-thumbs]");
  const show = () => {
    const files = [...input.files];
    if (list) {
      list.replaceChildren(...files.slice(0, 40).map((file) => {
        const item = document.createElement("li"), image = document.createElement("img");
        if (!file.type.startsWith("image/")) { item.append(file.name); return item; }
        image.src = URL.createObjectURL(file);
        image.alt = file.name;
        image.onload = () => URL.revokeObjectURL(image.src);
        image.onerror = () => item.replaceChildren(file.name);
        item.append(image);
        return item;
      }));
    }
    if (files.length && area.closest("[data-at-once]")) area.closest("form").requestSubmit();
  };
  input.addEventListener("change", show);
  area.addEventListener("dragover", (e) => { e.preventDefault(); area.classList.add("over"); });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (e) => {
    e.preventDefault();
    area.classList.remove("over");
    const files = new DataTransfer();
    for (const file of e.dataTransfer.files) files.items.add(file);
    input.files = files.files;
    show();
  });
  const folder = area.querySelector("[data-folder]");
  if (folder) folder.addEventListener("click", () => {
    const other = document.createElement("input");
    other.type = "file"; other.webkitdirectory = true;
    other.addEventListener("change", () => {
      const files = new DataTransfer();
      for (const file of other.files) files.items.add(file);
      input.files = files.files;
      show();
    });
    other.click();
  });
}

// An edit: the iterate that is chosen, over the picture, with what it changed.
function edit(section) {
  const compare = section.querySelector("[data-compare]");
  if (!compare) return;
  const over = compare.querySelector("[data-over]"), range = compare.querySelector("input");
  const slide = () => compare.style.setProperty("--at", `${range.value}%`);
  range.addEventListener("input", slide);
  slide();
  section.addEventListener("change", (e) => {
    if (e.target.type !== "radio") return;
    section.dataset.chosen = "1";
    const file = e.target.dataset.file, number = e.target.value;
    over.src = file;
    over.alt = `iterate ${number}`;
    section.querySelector("[data-save]").href = `${file}?save`;
    section.querySelector("[data-mask]").src = `/changed/${section.dataset.edit}/${section.dataset.picture}/${number}.png`;
    const further = section.querySelector("[data-further]"), query = new URL(further.href);
    query.searchParams.set("from_file", file.split("/file/")[1]);
    further.href = query.pathname + query.search;
  });
  const chosen = section.querySelector("input[type=radio]:checked");
  if (section.dataset.chosen && chosen) chosen.dispatchEvent(new Event("change", { bubbles: true }));
}

function once(root, selector, does) {
  for (const element of root.querySelectorAll(selector)) {
    if (!element.begun) { element.begun = true; does(element); }
  }
}

function begin(root) {
  once(root, "[data-drop]", drop);
  once(root, "[data-edit]", edit);
  once(root, "[data-copy]", (button) => button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("pre");
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text.textContent);
    } else { // over plain HTTP there is none
      getSelection().selectAllChildren(text);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }));
  once(root, "[data-word]", (box) => box.addEventListener("change", () => {
    const prompt = document.querySelector("[data-prompt]");
    if (box.checked && prompt && !prompt.value.includes(box.dataset.word)) {
      prompt.value = prompt.value ? `${prompt.value} ${box.dataset.word}` : `a photo of a ${box.dataset.word}`;
    }
  }));
  once(root, "[data-upload]", (form) => form.addEventListener("submit", () => {
    const button = form.querySelector("button.main");
    if (button) { button.textContent = "Sending …"; }
  }));
}

begin(document);
for (const part of document.querySelectorAll("[data-live]")) {
  const every = part.dataset.live === "/status" ? 2 * EVERY : EVERY;
  const next = async () => { await look(part); setTimeout(next, every); };
  setTimeout(next, every);
}
