// Small functions that make elements. Text is always set as text: no name of a photo or landmark becomes markup.

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function link(address, words) {
  const safe = /^https?:\/\//.test(address);
  return safe ? element("a", { href: address, rel: "noreferrer noopener", target: "_blank" }, words) : element("span", {}, words);
}

// A probability in words that do not claim more than is known.
export function percent(share) {
  if (share >= 0.995) return ">99 %";
  if (share < 0.005) return "<1 %";
  return `${Math.round(100 * share)} %`;
}

// Who made a photo, and its license, as far as they are known; an address of Creative Commons by its name.
export function credit(author, licence) {
  const found = /^https?:\/\/creativecommons\.org\/(?:licenses\/(?=by)|publicdomain\/(?=zero))([a-z-]+)\/(\d\.\d)(?:\/|$)/.exec(licence || "");
  const named = found ? `CC${found[1] === "zero" ? "0" : ` ${found[1].toUpperCase()}`} ${found[2]}` : licence;
  return [author, named].filter(Boolean).join(", ");
}

export const byId = (id) => document.getElementById(id);
export const hostOf = (address) => { try { return new URL(address).hostname.replace(/^www\./, ""); } catch { return address; } };
export const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
