"""The report: one HTML file that holds all it shows. No script, nothing fetched; text of runs and data is escaped."""

import base64
import datetime
import html
import io
from collections.abc import Iterable
from importlib import metadata, resources
from typing import Any

import torch
from PIL import Image

from onebit.analysis.figures.course import score_name
from onebit.analysis.figures.style import Picture
from onebit.analysis.study import Study

HARDEST = 12  # images
STYLE = resources.files("onebit.analysis") / "report.css"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

DEFINITIONS = (
    ("angle", "between x, what is binarized (rotated, centred or as it is), and B = sign(x), as one vector of a layer"),
    ("quantization error", "sum over filters of ‖x‖² sin²θ: what is left with the best scale (RBNN, eq. 2)"),
    ("flips", "share of a layer's signs that differ between two moments"),
    ("oscillation", "share of signs that flip in a step and flip back in the next (ReBNN)"),
    ("entropy", "−p log₂ p − (1 − p) log₂ (1 − p) bits, p the share of +1 of a filter or channel"),
    (
        "KL(real ‖ binary)",
        "in bits, of the distribution of real values from that of the binary ones, both blurred by a Gaussian of a quarter of "
        "the distance of the two values; weights in units of their filter's mean|x|",
    ),
    (
        "sensitivity",
        "points that the score gains where one operand of one layer is left real, scaled as its signs are, and all else stays "
        "binary; batch norms estimated anew for both",
    ),
)


def page(studies: list[Study], groups: list[tuple[str, list[Picture]]], of_runs: list[list[Picture]]) -> str:
    """The report as HTML.

    groups: titles, and figures of all runs; of_runs: figures of each run alone, one list for each study
    """
    title = studies[0].run.name if len(studies) == 1 else f"{len(studies)} runs compared"
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    groups = [(name, pictures) for name, pictures in groups if pictures]
    links = [*(name for name, _ in groups), "Answers", "Recipes and provenance", "Definitions"]
    parts = [
        f"<h1>{text(title)}</h1>",
        f'<p class="small">What <code>onebit analyze</code> found, {now}, onebit {text(metadata.version("onebit"))}.</p>',
        f"<nav>{' '.join(f'<a href={chr(34)}#{anchor(link)}{chr(34)}>{text(link)}</a>' for link in links)}</nav>",
        summary(studies),
        notes(studies),
    ]
    for name, pictures in groups:
        parts += [heading(name), *(shown(picture) for picture in pictures)]
    parts.append(heading("Answers"))
    for study, pictures in zip(studies, of_runs):
        parts += [
            f'<h3 class="run">{text(study.run.name)}</h3>',
            answered(study),
            *(shown(p) for p in pictures),
            hardest(study),
        ]
    parts.append(heading("Recipes and provenance"))
    parts += [provenance(study) for study in studies]
    parts.append(heading("Definitions"))
    defined = "".join(f"<dt>{text(name)}</dt><dd>{text(what)}</dd>" for name, what in DEFINITIONS)
    parts.append(f'<dl class="small">{defined}</dl>')
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Escaped for HTML, without what no document may hold."""
    return html.escape("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(value)))


def anchor(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def heading(name: str) -> str:
    return f'<h2 id="{anchor(name)}">{text(name)}</h2>'


def embedded(data: bytes, kind: str, alt: str) -> str:
    """An image inside the page; kind "png" or "svg+xml"."""
    return f'<img alt="{text(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def shown(picture: Picture) -> str:
    image = embedded(picture.svg, "svg+xml", picture.title)
    return (
        f"<h3>{text(picture.title)}</h3>\n<figure>{image}\n<figcaption>{text(picture.sentence)}</figcaption></figure>"
    )


def table(head: Iterable[str], rows: Iterable[Iterable[object]], kind: str = "") -> str:
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}">{f"<tr>{top}</tr>" if top else ""}{body}</table></div>'


def summary(studies: list[Study]) -> str:
    """One column a run: what it is, how good, how large, how fast. A line that nobody has is left out."""
    columns = [numbers(study) for study in studies]
    rows = [
        [name, *("–" if column[name] is None else column[name] for column in columns)]
        for name in columns[0]
        if any(column[name] is not None for column in columns)
    ]
    head = ["", *(study.run.name for study in studies)] if len(studies) > 1 else []
    return table(head, rows, "" if len(studies) > 1 else "keys")


def numbers(study: Study) -> dict[str, str | None]:
    run, sizes, answers = study.run, study.sizes, study.answers
    scores, progress = run.saved.scores or {}, run.saved.progress
    name = score_name(run) if run.metrics else next(iter(scores), "accuracy")
    best = None if progress is None else progress.best
    packed, ms = sizes.get("packed_bytes"), sizes.get("ms")
    return {
        "method": run.method,
        "network": str(run.saved.config.get("name")),
        "data": str(run.recipe["data"]) if "data" in run.recipe else None,
        "epochs": None if progress is None else str(progress.epoch),
        f"{name}, last epoch": f"{scores[name]:.2f} %" if name in scores else None,
        f"{name}, best epoch": None if best is None else f"{best:.2f} %",
        "accuracy in the engine": f"{answers.accuracy:.2f} %"
        if answers is not None and answers.by == "engine"
        else None,
        "calibration error": None if answers is None else f"{answers.calibration['ece']:.2f} %",
        "bytes, float32": f"{sizes['float32_bytes']:,}",
        "bytes, packed": None if packed is None else f"{packed:,}",
        "ms an image, 1 thread": None if ms is None else f"{ms:.3g} ({sizes['ms_q1']:.3g}–{sizes['ms_q3']:.3g})",
        "engine": None if ms is None else f"{sizes['isa']} on {sizes['processor']}",
    }


def notes(studies: list[Study]) -> str:
    """What is missing, and why."""
    lines = dict.fromkeys(
        (f"{s.run.name}: " if len(studies) > 1 else "") + sentence for s in studies for sentence in s.run.missing
    )
    return f'<ul class="notes">{"".join(f"<li>{text(line)}</li>" for line in lines)}</ul>' if lines else ""


def answered(study: Study) -> str:
    answers = study.answers
    if answers is None:
        return '<p class="small">No answers: see what is missing, above.</p>'
    where = "in the engine, packed" if answers.by == "engine" else "in PyTorch"
    return f"<p>{answers.accuracy:.2f} % of {len(answers.targets)} test examples are right ({where}).</p>"


def hardest(study: Study) -> str:
    """The images whose label got the least probability."""
    answers = study.answers
    if answers is None:
        return ""
    chosen = [int(index) for index in answers.hardest(HARDEST)]
    pictures: dict[int, Any] = {}
    start = 0
    for batch in answers.source.test(len(answers.targets)):
        for index in chosen:
            if start <= index < start + len(batch):
                pictures[index] = answers.source.pixels(batch.inputs[index - start : index - start + 1])[0]
        start += len(batch)
    cards = []
    for index in chosen:
        label, answer = (answers.labels[int(v[index])] for v in (answers.targets, answers.predicted))
        sure = 100 * answers.probabilities[index].max()
        image = embedded(png(pictures[index]), "png", f"test example {index}, {label}")
        cards.append(
            f"<div>{image}<span>{text(label)}</span>"
            f'<span class="wrong">answer: {text(answer)}, {sure:.0f} %</span></div>'
        )
    return (
        '<h3>The hardest images</h3><p class="small">Those whose label got the least probability: the label, and what was '
        f'answered with which probability.</p><div class="cards">{"".join(cards)}</div>'
    )


def png(pixels: torch.Tensor) -> bytes:
    """uint8 (H, W, C), of 1 or 3 channels (of others the first is shown), as a file."""
    array = pixels.numpy()
    buffer = io.BytesIO()
    Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0]).save(buffer, "png")
    return buffer.getvalue()


def provenance(study: Study) -> str:
    """The recipe's keys, and each start of the training."""
    run = study.run
    parts = [f'<h3 class="run">{text(run.name)}</h3>']
    parts.append(table([], run.recipe.items(), "keys") if run.recipe else "<p>No recipe is recorded.</p>")
    for start in run.starts:
        source = start.get("source") or {}
        machine = start.get("machine") or {}
        rows = {
            "started": start.get("time"),
            "at epoch, step": f"{start.get('epoch')}, {start.get('step')}",
            "command": " ".join(map(str, start.get("command") or [])),
            "source": f"{source.get('revision')}{', with changes' if source.get('dirty') else ''}"
            if source
            else "installed",
            "machine": ", ".join(str(machine[key]) for key in ("cpu", "cores", "system") if key in machine),
            "device": f"{start.get('device')}, {start.get('devices')} of them, {start.get('threads')} threads",
            "versions": ", ".join(f"{name} {version}" for name, version in (start.get("versions") or {}).items()),
        }
        parts.append(table([], rows.items(), "keys"))
    return "\n".join(parts)
