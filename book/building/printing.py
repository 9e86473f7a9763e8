"""The whole book as one PDF: its published pages in one document, printed by Chromium.

The pages are those that readers see, so nothing is typeset twice: formulas are MathJax's, figures
and tables the chapters' own. Print needs no code that a page folds away, and no buttons. A link
between pages becomes one inside the PDF. The table of contents gets its page numbers from a first
printing.
"""

import re
import shutil
from urllib.parse import unquote

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

__all__ = ["BROWSERS", "find_browser", "one_document", "print_pdf"]

BROWSERS = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")

# What only a screen needs, or a reader who wants the code that the page folds away. Results that it
# folds away are printed.
NOT_PRINTED = (
    "a.headerlink, .viewcode-link, iframe, script, .toctree-wrapper, .sd-stretched-link, "
    "details.hide:not(.below-input, .above-output), details.below-input > summary, "
    "details.above-output > summary > .expanded"
)
STYLES = ("pygments.css", "sphinx-design.min.css", "print.css")
CONTENTS_DEPTH = "h1, h2"

FILL_IN = """numbers => {
    for (const cell of document.querySelectorAll("[data-page-of]"))
        cell.textContent = numbers[cell.dataset.pageOf] ?? "";
}"""


def find_browser():
    """Return the path of an installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def slug(page):
    """The id of a page in the one document: ``book/claims`` → ``book-claims``."""
    return page.replace("/", "-")


def one_document(html, contents, config):
    """Join the published pages of a book to one HTML document.

    Args:
        html: folder of the published pages.
        contents: path of ``_toc.yml``, which says what the pages are and in which parts.
        config: path of ``_config.yml``, for title and author.

    Returns:
        str: the document. Its pictures and scripts are files of ``html``.
    """
    contents = yaml.safe_load(contents.read_text(encoding="utf-8"))
    config = yaml.safe_load(config.read_text(encoding="utf-8"))
    parts = {None: [contents["root"]]}
    for part in contents["parts"]:
        files = [own for page in part["chapters"] for own in (page, *page.get("sections", []))]
        parts[part["caption"]] = [page["file"] for page in files]
    pages = [page for part in parts.values() for page in part]
    articles = {page: printable(html, page, pages) for page in pages}
    document = BeautifulSoup(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"></head><body></body></html>',
        "html.parser",
    )
    head, body = document.head, document.body
    head.append(document.new_tag("title", string=config["title"]))
    for name in STYLES:
        address = (html / "_static" / name).as_uri()
        head.append(document.new_tag("link", rel="stylesheet", href=address))
    head.extend(mathjax(html, pages))
    body.append(title_page(config, articles[contents["root"]]))
    body.append(table_of_contents(parts, articles))
    body.extend(articles.values())
    return str(document)


def printable(html, page, pages):
    """Return a page's article, with ids that are unique in the book, as a section of its own."""
    path = html / f"{page}.html"
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    article = soup.select_one("article.bd-article")
    for element in article.select(NOT_PRINTED):
        element.decompose()
    for folded in article.select("details.below-input, details.above-output"):
        folded.name = "div"
    for title in article.select("div.above-output > summary"):
        title.name = "div"  # such as "Answers"
    for element in article.select("[id]"):
        element["id"] = f"{slug(page)}--{element['id']}"
    for picture in article.select("img[src]"):
        if not picture["src"].startswith("data:"):
            picture["src"] = (path.parent / unquote(picture["src"])).resolve().as_uri()
    for link in article.select("a[href]"):
        target = link["href"]
        if re.match(r"[a-z]+:", target):
            continue  # of another's page
        file, _, anchor = unquote(target).partition("#")
        file = (path.parent / file).resolve() if file else path.resolve()
        led = file.relative_to(html.resolve()).with_suffix("").as_posix()
        if led in pages:
            link["href"] = f"#{slug(led)}--{anchor}" if anchor else f"#{slug(led)}"
        else:
            link.unwrap()  # a listing or an index, which is not printed
    article.name, article["id"], article["class"] = "section", slug(page), "page"
    return article


def mathjax(html, pages):
    """Return the scripts of a page with formulas that set them."""
    for page in pages:
        soup = BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
        scripts = [script for script in soup.select("script") if "mathjax" in str(script).lower()]
        if any(script.get("src") for script in scripts):
            for script in scripts:
                if script.get("src"):
                    path = (html / page).parent / script["src"].partition("?")[0]
                    script["src"] = path.resolve().as_uri()
            return scripts
    return []


def title_page(config, root):
    """Return the title page: title and author, and the first page's question."""
    soup = BeautifulSoup('<section class="title"></section>', "html.parser")
    soup.section.append(soup.new_tag("p", string=config["title"], attrs={"class": "name"}))
    soup.section.append(soup.new_tag("p", string=root.p.get_text(), attrs={"class": "question"}))
    soup.section.append(soup.new_tag("p", string=config["author"], attrs={"class": "author"}))
    return soup.section


def table_of_contents(parts, articles):
    """Return the table of contents; the page numbers are filled in once they are known."""
    soup = BeautifulSoup('<nav class="contents"><h1>Contents</h1></nav>', "html.parser")
    for caption, pages in parts.items():
        if caption:
            soup.nav.append(soup.new_tag("p", string=caption, attrs={"class": "part"}))
        for page in pages:
            for heading in articles[page].select(CONTENTS_DEPTH):
                if heading.name == "h2" and not heading.select_one(".section-number"):
                    continue  # sections of the numbered chapters only
                target = slug(page) if heading.name == "h1" else heading.parent["id"]
                row = soup.new_tag("a", href=f"#{target}", attrs={"class": f"to-{heading.name}"})
                row.append(soup.new_tag("span", string=heading.get_text()))
                number = {"class": "number", "data-page-of": target}
                row.append(soup.new_tag("span", string="000", attrs=number))
                soup.nav.append(row)
    return soup.nav


def print_pdf(document, pdf, browser):
    """Print an HTML document to a PDF with page numbers, an outline, and links that work.

    Args:
        document: path of the document, as :func:`one_document` made it.
        pdf: path of the PDF to write.
        browser: path of Chromium or Chrome.
    """
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page()
        tab.goto(document.as_uri())
        tab.evaluate("window.MathJax && MathJax.startup.promise")
        tab.pdf(path=pdf, prefer_css_page_size=True, outline=True, tagged=True)
        tab.evaluate(FILL_IN, pages_of_anchors(pdf))
        tab.pdf(path=pdf, prefer_css_page_size=True, outline=True, tagged=True)
        chromium.close()


def pages_of_anchors(pdf):
    """Return on which page each link of a PDF leads, anchor → page number from 1."""
    reader = PdfReader(pdf)
    return {
        name.removeprefix("/"): reader.get_destination_page_number(target) + 1
        for name, target in reader.named_destinations.items()
    }
