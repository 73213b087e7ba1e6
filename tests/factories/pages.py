"""Pages as a reader and a browser find them, and what every page of kmm without a script must keep to."""

import base64
import hashlib
import itertools
import re

import html5lib

NAMESPACES = {"h": "http://www.w3.org/1999/xhtml", "s": "http://www.w3.org/2000/svg"}


def parse(text):
    """Parses a page; an error of its HTML is raised."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=True).parse(text)


def read_all(tree, path):
    return tree.findall(f".//{path}", NAMESPACES)


def read_text(element):
    return " ".join("".join(element.itertext()).split())


def find_section(tree, name):
    return next(part for part in read_all(tree, "h:section") if part.get("aria-labelledby") == name)


def check_page(text):
    """Checks that a page is valid, asks for nothing outside itself, runs nothing, and can be read to somebody."""
    tree = parse(text)
    _check_requests(text, tree)
    _check_policy(tree)
    _check_structure(tree)


def _check_requests(text, tree):
    for element in tree.iter():
        for attribute in ("src", "srcset", "action", "data", "style", "onclick", "onload"):
            value = element.get(attribute)
            assert value is None or value.startswith("data:"), (element.tag, attribute)
        if element.get("href"):
            inside = element.get("href").startswith("#" if element.tag.endswith("}use") else "data:")
            assert element.tag.endswith("}a") or inside
    assert not read_all(tree, "h:script") and not re.search(r"@import|url\(", text)


def _check_policy(tree):
    policy = next(m.get("content") for m in read_all(tree, "h:meta") if m.get("http-equiv"))
    (style,) = read_all(tree, "h:style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ") and f"style-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy and "script-src" not in policy and policy.endswith("img-src data:")


def _check_structure(tree):
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    links = [*read_all(tree, "h:a"), *read_all(tree, "s:use")]
    inside = [link.get("href") for link in links if link.get("href").startswith("#")]
    assert inside and {link[1:] for link in inside} == set(ids)
    levels = [int(element.tag[-1]) for element in tree.iter() if re.search(r"}h\d$", str(element.tag))]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(image.get("alt") for image in read_all(tree, "h:img"))
    for table in read_all(tree, "h:table"):
        assert read_text(table.find("h:caption", NAMESPACES))
        for row in read_all(table, "h:tr"):
            assert row[0].get("scope") in ("col", "row", "colgroup")
    for region in read_all(tree, "h:div"):
        if region.get("role") == "region":
            assert region.get("aria-label") and region.get("tabindex") == "0"
