"""A difference as one HTML page."""

from collections.abc import Iterator

from harness.contracts.difference import Difference, DifferenceReport
from harness.present import words
from harness.present.page import code, facts, flowing, page, tag, text

_MOST = 8  # on the first screen
_OUTSIDE = tag("bad", "outside any tool call")


def as_html(report: DifferenceReport) -> str:
    """Self-contained; see `page`."""
    body = [f"<h1>{text(words.summary(report))}</h1>"]
    if caveat := words.caveat(report):
        body.append(f'<p class="card changed">{text(caveat)}</p>')
    body.append(
        facts(
            [
                ("base", report.base),
                ("head", report.head),
                ("fixture", report.fixture or "not told"),
                ("compared", words.basis(report)),
            ]
        )
    )
    body += _first(words.outside(report))
    for category in report.categories:
        body.append(f"<h2>{text(words.title(category))}</h2>")
        body += [_node(category, node) for node in category.children]
    if report.notes:
        body.append("<h2>Notes</h2>")
        body.append("<ul>" + "".join(f"<li>{flowing(note)}</li>" for note in report.notes) + "</ul>")
    return page(f"assay-runner diff: {words.summary(report)}", body)


def _first(nodes: list[Difference]) -> Iterator[str]:
    """What to look at before all else: on the first screen, however long the page is."""
    if not nodes:
        return
    yield f'<div class="card bad"><p>{_OUTSIDE}: the agent itself does this, and did not before</p><ul>'
    for node in nodes[:_MOST]:
        done = words.aspects(node)
        yield f"<li>{code(words.headline(node))}{f': {flowing(done)}' if done else ''}</li>"
    more = f'<p class="soft">and {len(nodes) - _MOST} more, marked so below</p>' if len(nodes) > _MOST else ""
    yield f"</ul>{more}</div>"


def _node(category: Difference, node: Difference) -> str:
    outside = words.is_outside(category, node)
    mark = f" {_OUTSIDE}" if outside else ""
    lines = [
        f'<div class="card{" bad" if outside else ""}">{tag(node.kind)}{mark} {code(words.headline(node))}'
    ]
    if node.children:
        lines.append('<ul class="plain">')
        lines += [
            f'<li class="{one.kind}">{words.SIGNS[one.kind]} {flowing(words.headline(one))}</li>'
            for one in node.children
        ]
        lines.append("</ul>")
    lines += [f'<p class="soft">e.g. {text(one)}</p>' for one in words.examples(node)]
    return "\n".join([*lines, "</div>"])
