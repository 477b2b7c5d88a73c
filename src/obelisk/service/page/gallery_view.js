// The gallery: search, the long tail, one landmark with its photos, and changes where they are allowed.

import { referencePicture } from "./answers.js";
import { call, change } from "./api.js";
import { byId, count, element, hostOf, link } from "./elements.js";
import { PlaceMap } from "./place_map.js";

const AT_ONCE = 60;
let facts = null, shown = 0, search = 0;

export async function showGalleryLine() {
  try {
    facts = await call("v1/gallery");
    byId("gallery-line").textContent = `Names the landmark in a photo, among ${count(facts.landmarks, "landmark")}.`;
  } catch (error) {
    byId("gallery-line").textContent = error.message;
  }
}

export async function openGallery() {
  await showGalleryLine();
  if (!facts) return;
  const sure = facts.calibrated ? `It names a landmark from a confidence of ${facts.threshold.toFixed(2)} on.` : "It is not calibrated, so a confidence is only a score.";
  byId("gallery-facts").textContent = `${count(facts.landmarks, "landmark")}, ${count(facts.photos, "reference photo")}, model ${facts.model}. ${sure}`;
  byId("add-landmark").hidden = !facts.changes;
  drawTail(facts.photos_per_landmark);
  list("");
}

function drawTail(counts) {
  byId("tail").hidden = counts.length < 2;
  const most = Math.max(...counts, 1), step = 600 / counts.length;
  const path = counts.map((photos, rank) => `V${(120 - (110 * photos) / most).toFixed(1)}H${((rank + 1) * step).toFixed(1)}`).join("");
  byId("tail-path").setAttribute("d", `M0 120${path}V120Z`);
  const few = counts.filter((photos) => photos < 10).length;
  byId("tail-words").textContent = `Reference photos per landmark, from ${most} to ${Math.min(...counts)}; ${few} of ${counts.length} landmarks have fewer than ten.`;
}

async function list(words, offset = 0) {
  const asked = ++search;
  try {
    const query = new URLSearchParams({ search: words, offset, limit: AT_ONCE });
    const page = await call(`v1/landmarks?${query}`);
    if (asked !== search) return;
    if (!offset) byId("landmarks").replaceChildren();
    shown = offset + page.landmarks.length;
    byId("landmarks").append(...page.landmarks.map(landmarkButton));
    byId("found").textContent = words ? `${count(page.total, "landmark")} found.` : page.total ? "" : "The gallery is empty.";
    byId("more").hidden = shown >= page.total;
  } catch (error) {
    byId("found").textContent = error.message;
  }
}

function landmarkButton(landmark) {
  const cover = landmark.cover === null ? null : referencePicture(landmark.cover, landmark.gallery, null, "");
  const button = element("button", { type: "button" }, cover, element("b", {}, landmark.name), element("span", {}, [count(landmark.photos, "photo"), facts.galleries.length > 1 ? landmark.gallery : ""].filter(Boolean).join(" · ")));
  button.addEventListener("click", () => openLandmark(landmark));
  return element("li", {}, button);
}

async function openLandmark({ id, gallery }) {
  const dialog = byId("landmark");
  const closing = element("button", { type: "button", className: "quiet" }, "Close");
  closing.addEventListener("click", () => dialog.close());
  try {
    const landmark = await call(`v1/landmarks/${id}?${new URLSearchParams({ gallery })}`);
    const items = landmark.reference_photos.map((photo) => element("li", {}, referencePicture(photo.id, gallery, photo.link, `Reference photo of ${landmark.name}`)));
    dialog.replaceChildren(
      element("h2", { id: "landmark-name" }, landmark.name),
      element("p", {}, count(landmark.photos, "reference photo"), landmark.latitude === null ? "" : ` · ${landmark.latitude.toFixed(4)}, ${landmark.longitude.toFixed(4)}`),
      element("p", {}, ...landmark.links.flatMap((address) => [link(address, hostOf(address)), " "])),
      element("ul", { className: "photos" }, ...items),
      element("div", { className: "row" }, ...(facts.changes ? changeButtons(landmark) : []), closing),
    );
  } catch (error) {
    dialog.replaceChildren(element("h2", { id: "landmark-name" }, "This landmark can't be shown"), element("p", { className: "problem" }, error.message), closing);
  }
  if (!dialog.open) dialog.showModal();
}

function changeButtons(landmark) {
  const make = (words, danger, fields, act) => {
    const button = element("button", { type: "button", className: danger ? "danger" : "quiet" }, words);
    button.addEventListener("click", () => openChange(words, fields, act));
    return button;
  };
  const path = `v1/landmarks/${landmark.id}`;
  return [
    make("Add photos", false, [photosField()], (form) => change("POST", `${path}/photos`, onlyPhotos(form))),
    make("Rename", false, [textField("name", "New name", landmark.name)], (form) => change("PATCH", path, { name: form.get("name") })),
    make("Merge into another", false, [landmarkField(landmark.id)], (form) => change("POST", `v1/landmarks/${form.get("into")}/merge`, { ids: [landmark.id] })),
    make("Remove", true, [element("p", {}, `${landmark.name} and its ${count(landmark.photos, "reference photo")} will be removed. This can't be undone.`)],
      () => change("DELETE", path)),
  ];
}

const textField = (name, words, value = "") => element("label", { className: "field" }, words, element("input", { name, value, required: true, maxLength: 500, autocomplete: "off" }));
const photosField = () => element("label", { className: "field" }, "Photos", element("input", { type: "file", name: "photos", accept: "image/*", multiple: true, required: true }));

function landmarkField(except) {
  const select = element("select", { name: "into", required: true }, element("option", { value: "" }, "Choose one …"));
  call("v1/landmarks?limit=1000").then((page) => select.append(...page.landmarks.filter((one) => one.id !== except).map((one) => element("option", { value: one.id }, one.name))));
  return element("label", { className: "field" }, "Landmark that takes its photos", select);
}

function onlyPhotos(form) {
  const body = new FormData();
  for (const photo of form.getAll("photos")) body.append("photos", photo, photo.name);
  return body;
}

function openChange(words, fields, act) {
  const dialog = byId("change");
  const problem = element("p", { className: "problem", role: "alert" });
  const token = element("input", { type: "password", value: sessionStorage.getItem("token") || "", required: true, autocomplete: "off" });
  const cancel = element("button", { type: "button", className: "quiet" }, "Cancel");
  const submit = element("button", {}, words);
  cancel.addEventListener("click", () => dialog.close());
  const form = element("form", { method: "dialog" }, element("h2", { id: "change-heading" }, words), ...fields,
    element("label", { className: "field" }, "Token of this service", token), problem, element("div", { className: "row" }, submit, cancel));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", token.value);
    submit.disabled = true;
    try {
      const result = await act(new FormData(form));
      const failed = (result?.photos || []).filter((photo) => photo.error);
      if (failed.length) problem.textContent = failed.map((photo) => `${photo.photo}: ${photo.error}`).join("\n");
      else {
        dialog.close();
        byId("landmark").close();
      }
      await openGallery();
    } catch (error) {
      problem.textContent = error.message;
    }
    submit.disabled = false;
  });
  dialog.replaceChildren(form);
  dialog.showModal();
}

function newLandmark(form) {
  const body = onlyPhotos(form);
  body.append("name", form.get("name"));
  const [latitude, longitude] = form.get("place").split(/[,;]\s*/);
  if (latitude && longitude) {
    body.append("latitude", latitude);
    body.append("longitude", longitude);
  }
  return change("POST", "v1/landmarks", body);
}

byId("search").addEventListener("input", (event) => list(event.target.value.trim()));
byId("more").addEventListener("click", () => list(byId("search").value.trim(), shown));
byId("add-landmark").addEventListener("click", () => {
  const place = element("label", { className: "field" }, "Position: latitude, longitude (optional)", element("input", { name: "place", autocomplete: "off" }));
  openChange("Add a landmark", [textField("name", "Name"), place, photosField()], newLandmark);
});
