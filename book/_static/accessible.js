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
});
