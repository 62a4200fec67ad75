// Looks into every frame, and leaves what is wrong with its page, line by line.
"use strict";
addEventListener("load", () => {
  const lines = [];
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument;
    // What is behind a click is to fit as well.
    page.querySelectorAll("details").forEach((details) => (details.open = true));
    for (const fault of new Set(faults(page, frame.contentWindow))) lines.push(`${frame.clientWidth} px: ${fault}`);
  }
  document.getElementById("found").textContent = [...lines, "done"].join("\n");
});

function* faults(page, view) {
  const root = page.documentElement;
  const width = root.clientWidth;
  if (root.scrollWidth > width) yield `the page is wider than the window: ${root.scrollWidth} px`;
  const dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
  const behind = luminance(background(page.body, view));
  if (dark && behind > 0.4) yield "the page is light in the dark scheme";
  for (const element of page.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    const style = view.getComputedStyle(element);
    if (box.width === 0 || box.height === 0 || style.visibility !== "visible") continue;
    const around = scrollBox(element, view);
    if (around === null) {
      if (box.right > width + 1 || box.left < -1) yield `${name(element)} is beyond the page, from ${Math.round(box.left)} to ${Math.round(box.right)} px`;
    } else if (!around.scrolls && (box.right > around.right + 1 || box.left < around.left - 1)) {
      yield `${name(element)} is cut off, from ${Math.round(box.left)} to ${Math.round(box.right)} px`;
    }
    // Of what is drawn these are not pixels.
    const shows = style.overflowX === "visible" && style.display !== "inline" && element.namespaceURI === page.body.namespaceURI;
    if (shows && element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1) {
      yield `${name(element)} is narrower than what is in it: ${element.clientWidth} and not ${element.scrollWidth} px`;
    }
    if ([...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())) {
      const ink = colour(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
      const contrast = ratio(luminance(ink), luminance(background(element, view)));
      if (contrast < 4.5) yield `${name(element)} has a contrast of ${contrast.toFixed(1)}`;
    }
  }
  yield* overlaps(page);
}

// Text on text, within each picture.
function* overlaps(page) {
  for (const picture of page.querySelectorAll("svg")) {
    const texts = [...picture.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()]).filter(([, box]) => box.width > 0);
    texts.sort(([, a], [, b]) => a.top - b.top);
    for (const [index, [text, box]] of texts.entries()) {
      for (const [other, beside] of texts.slice(index + 1)) {
        if (beside.top >= box.bottom - 4) break;
        if (beside.left < box.right - 1 && box.left < beside.right - 1) yield `${name(text)} is on ${name(other)}`;
      }
    }
  }
}

// The nearest ancestor that cuts off what is beyond it, and whether one can scroll there.
function scrollBox(element, view) {
  for (let around = element.parentElement; around !== null && around !== element.ownerDocument.body; around = around.parentElement) {
    const overflow = view.getComputedStyle(around).overflowX;
    if (overflow !== "visible") {
      const { left, right } = around.getBoundingClientRect();
      return { left, right, scrolls: overflow === "auto" || overflow === "scroll" };
    }
  }
  return null;
}

// The colour behind an element: that of the nearest one that is opaque.
function background(element, view) {
  for (let around = element; around !== null; around = around.parentElement) {
    const found = colour(view.getComputedStyle(around).backgroundColor);
    if (found.length < 4 || found[3] === 1) return found;
  }
  return [255, 255, 255];
}

function colour(text) {
  return text.match(/[\d.]+/g).map(Number);
}

// As WCAG defines it.
function luminance(colour) {
  const [red, green, blue] = colour.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function ratio(a, b) {
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

function name(element) {
  const text = element.children.length === 0 ? ` “${element.textContent.trim().slice(0, 30)}”` : "";
  const about = ["id", "class"].filter((key) => element.hasAttribute(key)).map((key) => ` ${key}="${element.getAttribute(key)}"`);
  return `<${element.localName}${about.join("")}>${text}`;
}
