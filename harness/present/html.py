"""A difference as one HTML page."""

from harness.contracts.difference import Difference, DifferenceReport
from harness.present import words
from harness.present.page import code, facts, flowing, page, tag, text


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
    for category in report.categories:
        body.append(f"<h2>{text(words.title(category))}</h2>")
        body += [_node(node) for node in category.children]
    if report.notes:
        body.append("<h2>Notes</h2>")
        body.append("<ul>" + "".join(f"<li>{flowing(note)}</li>" for note in report.notes) + "</ul>")
    return page(f"assay-runner diff: {words.summary(report)}", body)


def _node(node: Difference) -> str:
    lines = [f'<div class="card">{tag(node.kind)} {code(words.headline(node))}']
    if node.children:
        lines.append('<ul class="plain">')
        lines += [
            f'<li class="{one.kind}">{words.SIGNS[one.kind]} {flowing(words.headline(one))}</li>'
            for one in node.children
        ]
        lines.append("</ul>")
    lines += [f'<p class="soft">e.g. {text(one)}</p>' for one in words.examples(node)]
    return "\n".join([*lines, "</div>"])
