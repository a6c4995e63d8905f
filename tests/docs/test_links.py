"""Links, anchors and pictures of README and the documentation lead somewhere."""

import pytest

from experiments.docs import links, reference, results
from experiments.docs.public import ROOT

SOURCES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
# Pages that the site generates and that pages in docs/ may link to.
GENERATED = {f"docs/{page}" for page in (reference.CLI_PAGE, results.OVERVIEW_PAGE)}


@pytest.mark.parametrize("source", SOURCES)
def test_links_lead_to_files_and_anchors(source):
    text = (ROOT / source).read_text(encoding="utf-8")
    broken = []
    for link in links.links(text, source):
        path = ROOT / link.target
        if link.target in GENERATED:
            continue
        if not path.exists():
            broken.append(f"line {link.line}: {link.target} is missing")
        elif link.anchor and link.anchor not in links.anchors(path.read_text(encoding="utf-8")):
            broken.append(f"line {link.line}: {link.target} has no heading #{link.anchor}")
    assert not broken


@pytest.mark.parametrize("name", results.experiments())
def test_results_pages_lead_to_files(name):
    for source in [links.experiment_readme(name), *links.reports(name)]:
        text = (ROOT / source).read_text(encoding="utf-8")
        missing = [x for x in links.links(text, source) if not (ROOT / x.target).exists()]
        assert not missing, source


def test_every_kind_of_link_is_found():
    text = """[a](x.md) and ![b](p/q.png), [c](../up.md#part), `[code](no.md)`
```
[fenced](no.md)
```
[web](https://example.org/x.md) [here](#below) [![b](i.png)](outer.md)
"""
    found = [(link.target, link.anchor, link.line) for link in links.links(text, "docs/a/s.md")]
    assert found[:4] == [
        ("docs/a/x.md", "", 1),
        ("docs/a/p/q.png", "", 1),
        ("docs/up.md", "part", 1),
        ("docs/a/s.md", "below", 5),
    ]


def test_links_out_of_docs_are_led_to_the_sites_pages():
    text = "[e](../../experiments/riccati/README.md) [r](../../experiments/riccati/report.md)"
    assert links.rewritten(text, "docs/guides/x.md", "guides/x.md") == (
        "[e](../results/riccati.md) [r](../results/riccati.md#linear-quadratic-oracle-results)"
    )
    picture = "![p](riccati.png) [c](../../hinf_rl/ops/riccati.py)"
    rewritten = links.rewritten(picture, "experiments/riccati/report.md", "results/riccati.md")
    assert rewritten == (
        "![p](../files/experiments/riccati/riccati.png) [c](../reference/hinf_rl/ops/riccati.md)"
    )


def test_headings_make_the_anchors_that_the_site_makes():
    assert links.anchors("# A `code` & more!\n\n## Part 2\n## Part 2\n") == {
        "a-code-more",
        "part-2",
        "part-2_1",
    }


def test_demotion_spares_code():
    assert links.demoted("# a\n```sh\n# no heading\n```\n## b") == (
        "## a\n```sh\n# no heading\n```\n### b"
    )
