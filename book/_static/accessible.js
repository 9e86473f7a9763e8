// Where Sphinx and its theme leave out or misname what those need who hear the page.
document.addEventListener("DOMContentLoaded", () => {
  // Buttons that unfold a part of the table of contents have no name: that of their part.
  for (const summary of document.querySelectorAll(".bd-sidebar-primary summary:not([aria-label])")) {
    const part = summary.closest("li")?.querySelector("a")?.textContent.trim();
    summary.setAttribute("aria-label", `Pages of ${part || "this part"}`);
  }
  // Long signatures are laid out as lists of definitions, which define nothing.
  for (const part of document.querySelectorAll("dt.sig dl, dt.sig dl > dd")) {
    part.setAttribute("role", "presentation");
  }
  // A list's role forbids the anchors that the bibliography has between its entries.
  for (const list of document.querySelectorAll(".citation-list[role=list]")) {
    list.removeAttribute("role");
  }
  // On a telephone the ledger's rows are paragraphs: each cell carries its column's heading.
  for (const table of document.querySelectorAll("#what-reproduces table")) {
    const headings = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    for (const cell of table.querySelectorAll("tbody td:not(:first-child)")) {
      cell.dataset.heading = headings[cell.cellIndex];
    }
  }
  // The theme takes blocks that do not scroll out of the keyboard's way. In a window that was just
  // made wider it may measure them before they have their width: measure again once they have it.
  const blocks = "pre, .output, .pst-scrollable-table-container";
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.tabIndex < 0 && target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    }
  });
  new MutationObserver((changes) => {
    for (const { target } of changes) {
      if (!target.matches(blocks)) continue;
      sizes.unobserve(target);
      sizes.observe(target); // which tells of it once, when the page is next laid out
    }
  }).observe(document.body, { subtree: true, attributeFilter: ["tabindex"] });
  // A picture too wide for a telephone scrolls in its frame; the keyboard must be able to move it.
  const FITS = 525; // pixels: so wide a picture is legible when it is as small as a telephone
  const frames = [...document.querySelectorAll(".figure-frame")];
  const look = (frame) => {
    const width = frame.querySelector("img")?.naturalWidth ?? 0;
    frame.style.setProperty("--own-width", width > FITS ? `${width}px` : "0px");
    if (frame.scrollWidth > frame.clientWidth + 1) {
      const number = frame.closest("figure")?.querySelector("figcaption strong")?.textContent;
      frame.tabIndex = 0;
      frame.setAttribute("role", "group");
      frame.setAttribute("aria-label", `${number ?? "Figure."} The picture scrolls sideways.`);
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) frame.removeAttribute(name);
    }
  };
  const widths = new ResizeObserver((entries) => entries.forEach(({ target }) => look(target)));
  frames.forEach((frame) => widths.observe(frame)); // which tells of each once at the beginning
  window.addEventListener("load", () => frames.forEach(look)); // now pictures have their widths
});
