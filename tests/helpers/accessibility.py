"""What keeps people from reading a page in a browser, as axe finds it."""

import json

from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe

__all__ = ["COLOUR_RULES", "serious_faults"]

LOOK = "data-look"

# Contrast depends on the colours of a text, of what lies behind it, and on its size. Most texts of
# a page look like another one, so axe, which takes long, sees one text of each look.
MARK_LOOKS = """mark => {
    const numbers = new Map(), behind = new Map(), seen = new Set();
    const number = look => numbers.get(look) ?? numbers.set(look, numbers.size + 1).get(look);
    const says = node => node.nodeType === Node.TEXT_NODE && node.data.trim();
    for (const element of document.querySelectorAll('body, body *')) {
        element.removeAttribute(mark);
        const style = getComputedStyle(element), parent = element.parentElement;
        const layer = [style.backgroundColor, style.backgroundImage, style.opacity, style.filter];
        const below = behind.get(parent) ?? 0;
        const clear = ['rgba(0, 0, 0, 0)', 'none', '1', 'none'].join() === layer.join();
        behind.set(element, clear ? below : number([below, ...layer].join()));
        if (![...element.childNodes].some(says)) continue;
        if (!element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
        const look = [behind.get(element), getComputedStyle(parent).color, style.color,
            style.fontSize, style.fontWeight, style.textDecorationLine, style.textShadow,
            element.tagName === 'A'].join();
        if (!seen.has(look)) element.setAttribute(mark, '');
        seen.add(look);
    }
}"""
COLOUR_RULES = {"color-contrast": f"[{LOOK}]", "link-in-text-block": f"a[href][{LOOK}]"}
CHANGED = {"rules": [{"id": rule, "selector": selector} for rule, selector in COLOUR_RULES.items()]}
AXE = Axe(f"{AXE_SCRIPT}; axe.configure({json.dumps(CHANGED)})")


def serious_faults(tab, *, rules=None):
    """Serious faults of a page as it is shown: contrast, names of links and pictures, headings, …

    Args:
        tab: a page of playwright.
        rules: names of axe's rules; by default all.

    Returns:
        list of str.
    """
    tab.evaluate(MARK_LOOKS, LOOK)
    options = {"resultTypes": ["violations"], "preload": False}
    found = AXE.run(tab, options=options | ({"runOnly": rules} if rules else {}))
    return [
        f"{fault['id']}: {fault['help']} ({node['html'][:120]})"
        for fault in found.response["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]
