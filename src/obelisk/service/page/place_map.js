// A map of places over an outline of the world, which works offline; street pictures only when the user asks.

import { byId } from "./elements.js";

const TILES = "https://tile.openstreetmap.org/{z}/{x}/{y}.png";

let leaflet = null;

function load() {
  leaflet ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = "page/leaflet/leaflet.js";
    script.onload = () => done(window.L);
    script.onerror = failed;
    document.head.append(script);
  });
  return leaflet;
}

// The outline is an SVG path of closed rings, in tenths of a degree from the upper left: 180° W, 90° N.
function landRings(path) {
  return path.split("z").filter(Boolean).map((ring) => {
    let x = 0, y = 0;
    const points = [], numbers = ring.match(/-?\d+/g).map(Number);
    for (let index = 0; index < numbers.length; index += 2) {
      x += numbers[index];
      y += numbers[index + 1];
      points.push([90 - y / 10, x / 10 - 180]);
    }
    return points;
  });
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class PlaceMap {
  constructor(container) {
    this.container = container;
    this.points = [];
  }

  open() {
    this.opened ??= this.draw();
    return this.opened;
  }

  async draw() {
    const L = await load();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.map = L.map(this.container, { worldCopyJump: true, zoomAnimation: !still, fadeAnimation: !still, attributionControl: true });
    this.map.attributionControl.setPrefix(false);
    this.map.setView([30, 0], 1);
    const outline = await fetch("page/world.json").then((response) => response.json());
    const style = { stroke: true, weight: 0.5, color: color("--line"), fillColor: color("--land"), fillOpacity: 1, interactive: false };
    L.polygon(landRings(outline.path), style).addTo(this.map);
    return L;
  }

  async show(latitude, longitude, name) {
    const L = await this.open();
    const options = { radius: 8, color: color("--ink"), weight: 2, fillColor: color("--accent"), fillOpacity: 0.9 };
    const words = document.createElement("span");
    words.textContent = name;
    L.circleMarker([latitude, longitude], options).bindTooltip(words).bindPopup(words).addTo(this.map);
    this.points.push([latitude, longitude]);
    this.map.invalidateSize();
    this.map.fitBounds(this.points, { maxZoom: 5, padding: [30, 30], animate: false });
  }

  async showTiles() {
    const L = await this.open();
    const attribution = '© <a href="https://www.openstreetmap.org/copyright" rel="noopener">OpenStreetMap</a> contributors';
    L.tileLayer(TILES, { maxZoom: 19, attribution, referrerPolicy: "strict-origin-when-cross-origin" }).addTo(this.map);
    this.map.fitBounds(this.points, { maxZoom: 14, padding: [30, 30], animate: false });
  }
}

const photosMap = new PlaceMap(byId("map"));
byId("tiles").addEventListener("click", (event) => {
  event.target.disabled = true;
  photosMap.showTiles();
});

export async function showPlace(answer) {
  const candidate = answer.candidates[0];
  if (!candidate || answer.latitude === null || answer.verdict === "unknown") return;
  byId("map-panel").hidden = false;
  await photosMap.show(answer.latitude, answer.longitude, candidate.landmark);
}
