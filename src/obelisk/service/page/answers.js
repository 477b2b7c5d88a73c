// One answer as a card: the photo, the verdict in words, the candidates as bars, the neighbors, what made them alike.

import { recognize } from "./api.js";
import { credit, element, hostOf, link, percent } from "./elements.js";

export function describe(answer) {
  if (answer.error) return answer.error;
  const [first] = answer.candidates;
  if (answer.landmark) return `${answer.landmark}, ${percent(answer.confidence)}`;
  if (answer.verdict === "probable") return `Probably ${first.landmark}, ${percent(answer.confidence)}`;
  return first ? `No landmark I know; nearest: ${first.landmark}` : "No landmark I know";
}

function candidateTable(answer) {
  const rows = answer.candidates.map((candidate) => {
    const bar = element("span", { className: "bar" });
    bar.style.width = `${Math.max(0, Math.min(1, candidate.score)) * 100}%`;
    const score = candidate.score.toFixed(2);
    return element("tr", {}, element("th", { scope: "row" }, candidate.landmark), element("td", {}, score), element("td", { "aria-hidden": "true" }, bar));
  });
  return element("table", { className: "candidates" }, element("caption", {}, "Candidates, by score"), element("tbody", {}, ...rows));
}

export function referencePicture(id, gallery, address, words) {
  const query = new URLSearchParams({ gallery });
  const picture = element("img", { src: `v1/photos/${encodeURIComponent(id)}?${query}`, alt: words, loading: "lazy" });
  picture.addEventListener("error", () => {
    const instead = address && /^https?:/.test(address) ? link(address, `photo at ${hostOf(address)}`) : element("span", {}, "photo not at hand");
    picture.replaceWith(element("span", { className: "no-picture" }, instead));
  });
  return picture;
}

function creditLine(neighbor) {
  const words = credit(neighbor.author, neighbor.licence);
  if (!words) return null;
  return element("span", { className: "credit faint" }, "Photo: ", neighbor.source ? link(neighbor.source, words) : words);
}

function neighborList(answer) {
  const items = answer.neighbours.map((neighbor) =>
    element("li", {}, referencePicture(neighbor.id, neighbor.gallery, neighbor.source, `Reference photo of ${neighbor.landmark}`),
      element("span", {}, `${neighbor.landmark}, similarity ${neighbor.similarity.toFixed(2)}`), creditLine(neighbor)));
  return items.length ? element("ul", { className: "neighbors", "aria-label": "Nearest reference photos" }, ...items) : null;
}

function drawRegions(picture, regions, side) {
  picture.querySelectorAll(".region").forEach((old) => old.remove());
  regions.forEach((region, index) => {
    const [left, top, right, bottom] = region[side];
    const box = element("div", { className: "region", role: "img", "aria-label": `Region ${index + 1}: ${percent(region.share)} of the similarity` },
      element("span", {}, `${index + 1}`));
    Object.assign(box.style, { left: `${left * 100}%`, top: `${top * 100}%`, width: `${(right - left) * 100}%`, height: `${(bottom - top) * 100}%` });
    picture.append(box);
  });
}

function drawReference(pictures, answer, { reference_id, regions }) {
  const neighbor = answer.neighbours.find((one) => one.id === reference_id);
  if (!neighbor || !regions.length) return;
  const picture = element("div", { className: "picture" }, referencePicture(neighbor.id, neighbor.gallery, neighbor.source, `Reference photo of ${neighbor.landmark}`));
  drawRegions(picture, regions, "reference");
  pictures.append(element("figure", {}, picture, element("figcaption", {}, `Reference photo of ${neighbor.landmark}`, creditLine(neighbor))));
}

function whyButton(card, answer, words) {
  const button = element("button", { type: "button", className: "quiet" }, "Show why");
  button.addEventListener("click", async () => {
    button.disabled = true;
    words.textContent = "Looking …";
    try {
      const { regions } = await recognize(card.photo, { explain: true }, (seconds) => { words.textContent = busy(seconds); });
      drawRegions(card.picture, regions.regions, "photo");
      drawReference(card.pictures, answer, regions);
      words.textContent = regions.regions.length
        ? `These regions look alike. ${regions.regions.map((region, index) => `Region ${index + 1} makes ${percent(region.share)} of the similarity.`).join(" ")}`
        : regions.reference_id ? "No region of the photo matches one of the nearest reference photo." : "The nearest reference photo is not at hand, so its regions can't be compared.";
      button.remove();
    } catch (error) {
      words.textContent = error.message;
      button.disabled = false;
    }
  });
  return button;
}

export const busy = (seconds) => `The server is busy; trying again in ${seconds} s …`;

export class AnswerCard {
  constructor(photo) {
    this.photo = photo;
    this.address = URL.createObjectURL(photo);
    const shown = element("img", { src: this.address, alt: `Your photo ${photo.name || ""}` });
    shown.addEventListener("error", () => shown.replaceWith(element("span", { className: "no-picture" }, "This browser can't show the photo")));
    this.picture = element("div", { className: "picture" }, shown);
    this.pictures = element("div", { className: "pictures" }, this.picture);
    this.verdict = element("p", { className: "verdict" }, "Waiting …");
    this.details = element("div");
    this.item = element("li", { className: "answer" }, this.pictures,
      element("div", {}, this.verdict, element("p", { className: "name" }, photo.name || "photo"), this.details));
  }

  say(words) {
    this.verdict.textContent = words;
  }

  fail(words, message) {
    this.verdict.className = "verdict error";
    this.say(words);
    this.details.replaceChildren(element("p", {}, message));
  }

  show(answer) {
    if (answer.error) return this.fail("This photo can't be read", answer.error);
    this.verdict.className = `verdict ${answer.verdict}`;
    this.say(describe(answer));
    const words = element("p", { className: "faint", "aria-live": "polite" });
    const named = answer.verdict !== "unknown";
    const place = !named || answer.latitude === null ? null : element("span", {}, `${answer.latitude.toFixed(4)}, ${answer.longitude.toFixed(4)} `);
    const links = (named ? answer.links : []).map((address) => element("span", {}, link(address, hostOf(address)), " "));
    this.details.append(...[
      answer.warning ? element("p", { className: "problem" }, answer.warning) : null,
      place || links.length ? element("p", {}, place, ...links) : null,
      candidateTable(answer), neighborList(answer), whyButton(this, answer, words), words,
    ].filter(Boolean));
  }
}
