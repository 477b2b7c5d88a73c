// The page: photos come in by drop, paste, choice or camera, and are answered one after another.

import { AnswerCard, busy, describe } from "./answers.js";
import { recognize } from "./api.js";
import { byId, count } from "./elements.js";
import { openGallery, showGalleryLine } from "./gallery_view.js";
import { showPlace } from "./place_map.js";

const AT_ONCE = 2;
const waiting = [];
let running = 0, done = 0, total = 0;

function tell(last) {
  byId("status").textContent = `${done < total ? `${done} of ` : ""}${count(total, "photo")} done. ${last}`;
}

function take(files) {
  const photos = [...files].filter((file) => file.type.startsWith("image/") || /\.(jpe?g|png|webp|heic|heif|avif|tiff?|bmp|gif)$/i.test(file.name));
  if (!photos.length) {
    byId("status").textContent = "That was no photo. JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP and GIF can be read.";
    return;
  }
  for (const photo of photos) {
    const card = new AnswerCard(photo);
    byId("answers").prepend(card.item);
    waiting.push(card);
    total++;
  }
  while (running < AT_ONCE && waiting.length) work();
}

async function work() {
  running++;
  for (let card = waiting.shift(); card; card = waiting.shift()) {
    card.say("Looking …");
    let words;
    try {
      const near = byId("use-position").checked;
      const answer = await recognize(card.photo, { near }, (seconds) => card.say(busy(seconds)));
      card.show(answer);
      words = `${card.photo.name || "Photo"}: ${describe(answer)}`;
      await showPlace(answer).catch(() => {});
    } catch (error) {
      card.fail("This photo was not answered", error.message);
      words = `${card.photo.name || "Photo"}: ${error.message}`;
    }
    done++;
    tell(words);
  }
  running--;
}

function listen() {
  byId("camera-button").hidden = navigator.maxTouchPoints === 0;
  const drop = byId("drop");
  drop.addEventListener("submit", (event) => event.preventDefault());
  for (const input of [byId("choose"), byId("camera")]) {
    input.addEventListener("change", () => {
      take(input.files);
      input.value = "";
    });
  }
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files));
}

function switchView() {
  const view = location.hash === "#gallery" ? "gallery" : "photos";
  for (const name of ["photos", "gallery"]) {
    byId(`view-${name}`).hidden = name !== view;
    if (name === view) byId(`tab-${name}`).setAttribute("aria-current", "page");
    else byId(`tab-${name}`).removeAttribute("aria-current");
  }
  if (view === "gallery") openGallery();
}

listen();
addEventListener("hashchange", switchView);
switchView();
showGalleryLine();
