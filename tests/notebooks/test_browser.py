"""Every page as its readers see it: three widths, light and dark, without a network.

Screenshots of what was tested are kept in ``_build/screenshots``.
"""

import re
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from book.building.places import BUILD, ROOT
from book.building.publishing import pages
from tests.helpers.accessibility import COLOUR_RULES, serious_faults

WIDTHS = (1440, 768, 390)  # a screen, a tablet, a telephone
SCHEMES = ("light", "dark")
SCREENSHOTS = BUILD / "screenshots"
# Said by the theme's own scripts on every page, and no fault.
CHATTER = ("Got invalid theme mode", "[PST]:", "[togglebutton]:")

NOISE = ("error", "warning")


@pytest.fixture(scope="module", params=pages(ROOT))
def page(request):
    """Each page in turn: pytest runs all tests of one page before those of the next."""
    return request.param


@pytest.fixture(scope="module")
def loaded(browser, html, page):
    """A tab with the page, and the list of what its console complains of."""
    tab, complaints = browser.new_page(), []
    tab.on("console", lambda m: complaints.append(m.text) if m.type in NOISE else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    load(tab, html, page)
    yield tab, complaints
    tab.close()


@pytest.fixture
def tab(browser):
    tab = browser.new_page()
    yield tab
    tab.close()


def load(tab, html, name, query=""):
    tab.goto((html / f"{name}.html").as_uri() + query)
    tab.evaluate("window.MathJax && MathJax.startup && MathJax.startup.promise")


def see(tab, width=WIDTHS[0], scheme="light"):
    """Show the tab's page at another width, or by night; its theme follows a little later."""
    tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    tab.set_viewport_size({"width": width, "height": 900})
    tab.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")


OVERFLOW = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll('body *')]
        .filter(e => e.getBoundingClientRect().right > width + 1)
        .map(e => e.tagName + '.' + e.className).slice(-5);
}"""
NOT_SHOWN = """() => [...document.images]
    .filter(image => !image.complete || image.naturalWidth === 0).map(image => image.src)"""
WITHOUT_ALT = """() => [...document.images]
    .filter(image => !image.hasAttribute('alt') || image.alt === image.getAttribute('src'))
    .map(image => image.src)"""
NOT_TYPESET = """() => [...document.querySelectorAll('article p, article td, article figcaption')]
    .filter(part => !part.closest('pre, dl.py, iframe'))
    .map(part => {
        const copy = part.cloneNode(true);
        copy.querySelectorAll('code, .math, mjx-container').forEach(child => child.remove());
        return copy.textContent;
    })
    .filter(text => /(^|[\\s(=])-\\d|\\d[ \u00a0]?%(?![0-9A-Fa-f]{2})|(^|\\s)–[a-z]/.test(text))"""


def test_page_is_whole_at_every_width_by_day_and_by_night(page, loaded):
    tab, complaints = loaded
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for scheme in SCHEMES:
        for width in WIDTHS:
            see(tab, width, scheme)
            assert tab.evaluate(OVERFLOW) == [], f"too wide at {width} pixels"
            picture = f"{page.replace('/', '-')}-{scheme}-{width}.png"
            tab.screenshot(path=SCREENSHOTS / picture)
    assert tab.evaluate(NOT_SHOWN) == []
    assert tab.evaluate(WITHOUT_ALT) == []
    assert tab.evaluate(NOT_TYPESET) == [], 'a hyphen for a minus sign, "5%" or "5 %", or "–option"'
    assert tab.locator("mjx-merror").count() == 0
    assert tab.locator("mjx-container").count() >= tab.locator(".math").count()
    assert [said for said in complaints if not said.startswith(CHATTER)] == []


BLOCKS = "[...document.querySelectorAll('pre')]"
SCROLLS = f"{BLOCKS}.filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth)"


def settle(tab):
    """Wait until the theme, a little after a resize, has said what the keyboard can scroll."""
    tab.evaluate(f"{BLOCKS}.forEach(e => e.tabIndex = 1)")
    tab.evaluate("window.dispatchEvent(new Event('resize'))")
    said = f"{BLOCKS}.every(e => e.tabIndex < 1) && {SCROLLS}.every(e => e.tabIndex === 0)"
    tab.wait_for_function(f"() => {said}")


def test_page_can_be_read_by_everybody_by_day_and_by_night(loaded):
    """axe finds no serious fault: contrast, names of links and pictures, order of headings."""
    tab, _ = loaded
    see(tab)
    settle(tab)
    assert serious_faults(tab) == []
    see(tab, scheme="dark")
    assert serious_faults(tab, rules=list(COLOUR_RULES)) == []


def test_code_that_scrolls_stays_reachable_when_the_theme_mismeasures_it(loaded):
    tab, _ = loaded
    see(tab, width=390)
    settle(tab)
    tab.evaluate(f"{SCROLLS}.forEach(e => e.tabIndex = -1)")
    tab.wait_for_function(f"() => {SCROLLS}.every(e => e.tabIndex === 0)")


PLAIN = "color: #111; text-decoration: none"
FAULTS = {
    "<p style='color: #aaa'>pale</p>": "color-contrast",
    "<div style='background: #333'><p>black on nearly black</p></div>": "color-contrast",
    "<div style='opacity: 0.3'><p>faint</p></div>": "color-contrast",
    f"<p>In a sentence a <a href='#x' style='{PLAIN}'>link</a>.</p>": "link-in-text-block",
    "<p style='visibility: hidden'>unseen</p><p style='color: #aaa'>pale</p>": "color-contrast",
}


@pytest.mark.parametrize(("fault", "rule"), FAULTS.items())
def test_one_fault_among_a_hundred_sound_texts_is_found(tab, fault, rule):
    sound = "<p>Black on white, <a href='#x'>linked</a>.</p>" * 50
    body = f"<body style='background: #fff; color: #000'>{sound}{{}}{sound}</body>"
    tab.set_content(body.format(""))
    assert serious_faults(tab, rules=list(COLOUR_RULES)) == []
    tab.set_content(body.format(fault))
    found = serious_faults(tab, rules=list(COLOUR_RULES))
    assert [each.split(":")[0] for each in found] == [rule]


PICTURES = "[...document.querySelectorAll('.cell_output img')].filter(i => !i.closest('.explore'))"
CAPTIONS = f"""() => {PICTURES}.map(image => {{
    const caption = image.closest('figure')?.querySelector('figcaption');
    const box = caption?.getBoundingClientRect();
    return !!box && box.height > 10 && box.top >= image.getBoundingClientRect().bottom - 1;
}})"""
NO_SHADOW = """() => [...document.querySelectorAll(
        '.cell_output .output.text_html, .pst-scrollable-table-container')]
    .filter(frame => frame.querySelector('table') && frame.scrollWidth > frame.clientWidth + 1)
    .filter(frame => !getComputedStyle(frame).backgroundImage.includes('gradient'))
    .map(frame => frame.textContent.slice(0, 80))"""
FILTERS = f"""() => {PICTURES}.map(image =>
    [image.classList.contains('photograph'), getComputedStyle(image).filter])"""


def test_figures_stand_above_their_captions_and_wide_tables_say_that_they_scroll(loaded):
    tab, _ = loaded
    for width in WIDTHS:
        see(tab, width)
        assert all(tab.evaluate(CAPTIONS)), f"at {width} pixels"
        assert tab.evaluate(NO_SHADOW) == [], f"at {width} pixels"


FRAMES = """() => [...document.querySelectorAll('.figure-frame')].map(frame => {
    const image = frame.querySelector('img');
    const scale = image.getBoundingClientRect().width / image.naturalWidth;
    const scrolls = frame.scrollWidth > frame.clientWidth + 1;
    const reachable = frame.tabIndex === 0 && !!frame.getAttribute('aria-label');
    return {width: image.naturalWidth, scale, scrolls, reachable};
})"""
POINT = 100 / 72  # pixels: pictures have 100 an inch
LEGIBLE = 9  # pixels of a letter's height


def test_the_text_of_figures_is_legible_on_a_telephone(loaded):
    """Text of 10 points always, of 8 points where the picture scrolls; the keyboard moves it."""
    tab, _ = loaded
    for width in WIDTHS:
        see(tab, width)
        tab.wait_for_timeout(100)  # until the page has looked at its new size
        for figure in tab.evaluate(FRAMES):
            assert figure["scrolls"] == figure["reachable"], figure
            assert figure["scale"] * 10 * POINT >= LEGIBLE, figure
            assert not figure["scrolls"] or figure["scale"] * 8 * POINT >= LEGIBLE, figure
            assert width <= 599 or not figure["scrolls"], figure


STACKED = """() => [...document.querySelectorAll('#what-reproduces table')].flatMap(table => {
    const headings = [...table.querySelectorAll('thead th')].map(cell => cell.textContent.trim());
    return [...table.querySelectorAll('tbody td:not(:first-child)')].map(cell =>
        [headings[cell.cellIndex], getComputedStyle(cell, '::before').content]);
})"""


def test_the_ledgers_rows_name_their_columns_on_a_telephone(tab, html):
    """Networks stand beside their own verdicts, though the heading of the table is not shown."""
    load(tab, html, "book/claims")
    see(tab, width=390)
    cells = tab.evaluate(STACKED)
    assert {heading for heading, _ in cells} > {"verdict", "WRN-16-2 on CIFAR-100"}
    assert [shown for _, shown in cells] == [f'"{heading}: "' for heading, _ in cells]


def test_plots_turn_dark_by_night_and_photographs_stay(loaded):
    tab, _ = loaded
    see(tab, scheme="dark")
    for photograph, turned in tab.evaluate(FILTERS):
        assert ("invert" in turned) != photograph


def test_search_finds_without_a_network(tab, html):
    load(tab, html, "search", "?q=purification")
    tab.wait_for_selector("#search-results li a")
    addresses = [a.get_attribute("href") for a in tab.query_selector_all("#search-results li a")]
    assert any("08_purification" in address for address in addresses)


# --- links ---------------------------------------------------------------------------------------


class Links(HTMLParser):
    """Where a page's links lead, and what they may lead to in it."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.anchors = [], {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.targets.append(unquote(attributes["href"]))


links_of = cache(Links)


def test_every_link_of_the_book_leads_somewhere(page, html):
    path = html / f"{page}.html"
    for target in links_of(path).targets:
        if re.match(r"[a-z]+:|//", target):
            continue  # another's page: there is no network here
        file, _, anchor = target.partition("#")
        led = (path.parent / file.partition("?")[0]).resolve() if file else path
        assert led.is_file(), target
        if led.suffix == ".html":
            assert anchor in links_of(led).anchors, target
