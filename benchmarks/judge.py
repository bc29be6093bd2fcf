"""Does the world's judge agree with a human about generated images?

    python benchmarks/judge.py base FOLDER
    python benchmarks/judge.py eyes ANSWERS ANSWERS

FOLDER comes from `binding.py draw`, and a human has filled in its `answers.json`. The judge's answers about the same images
go to `FOLDER/judge.json` in the same form, without colours. Prints the fractions on which both agree, of the fields that
the human filled in, and for `kind not imagined` of the kinds that the judge found. Then the fractions of words that the human
and the judge read as the caption has them, of the captions' components that both see. `eyes` compares two humans' answers.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from binding import CHECKS, Answer, BindingCheck, fractions
from PIL import Image

from magictailor.common.files import write_json
from magictailor.world.catalog import CATALOG
from magictailor.world.judge import load_judge
from magictailor.world.judgement import Judgement, SeenComponent, judged


def _word(component: SeenComponent) -> str:
    return CATALOG[component.category].kind(component.kind).variants[component.variant]


def reading(judgement: Judgement, alone: bool) -> Answer:
    """A judgement as an answer about a binding image, or about a component ``alone``."""
    largest_last = sorted(judgement.components.values(), key=lambda c: int(c.mask.sum()))
    words = {c.kind: {"word": _word(c)} for c in largest_last}
    if alone:
        kind = largest_last[-1].kind if largest_last else ""
        return {"kind": kind, **words.get(kind, {"word": ""})}
    return {"category": judgement.category or "", "context": judgement.context, "components": words}


def agreement(human: Answer, judge: Answer) -> list[dict[str, bool]]:
    """Whether each field agrees, for the image and for each of its components. Empty answers are not compared."""
    fields = ("category", "context", "kind", "word")
    rows = [{f: judge[f] == human[f] for f in fields if human.get(f)}]
    seen, read = human.get("components", {}), judge.get("components", {})
    for kind, component in seen.items():
        rows.append({"kind": kind in read})
        if kind in read and component.get("word"):
            rows.append({"word": read[kind]["word"] == component["word"]})
    return [*rows, *({"kind not imagined": kind in seen} for kind in read)]


def as_captioned(human: Answer, judge: Answer, check: BindingCheck) -> list[dict[str, bool]]:
    """Whether the human and the judge read the words of the caption's components, of those that both see."""
    seen, read = human["components"], judge["components"]
    both = [c for c in check.concept.components if seen.get(c.kind, {}).get("word") and c.kind in read]
    return [{name: a[c.kind]["word"] == c.word for name, a in (("human", seen), ("judge", read))} for c in both]


def base(folder: Path) -> None:
    network = load_judge()
    readings: dict[str, list[Answer]] = {}
    for name, answers in json.loads((folder / "answers.json").read_text("utf-8")).items():
        files = [folder / "pictures" / f"{name}-{a['number']:03d}.png" for a in answers]
        images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        readings[name] = [reading(j, name == "component") for j in judged(network, images)]
        rows = [row for pair in zip(answers, readings[name]) for row in agreement(*pair)]
        print(name, fractions(rows))
        if name == "binding":
            triples = zip(answers, readings[name], CHECKS[name], strict=True)
            print("words as captioned", fractions([row for triple in triples for row in as_captioned(*triple)]))
    write_json(folder / "judge.json", readings)


def eyes(first: Path, second: Path) -> None:
    """Of the first one's binding answers, the fractions on which the second agrees."""
    answers = [json.loads(path.read_text("utf-8"))["binding"] for path in (first, second)]
    print(fractions([row for pair in zip(*answers, strict=True) for row in agreement(*pair)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("base").add_argument("folder", type=Path)
    verbs.add_parser("eyes").add_argument("answers", type=Path, nargs=2)
    options = parser.parse_args()
    base(options.folder) if options.verb == "base" else eyes(*options.answers)


if __name__ == "__main__":
    main()
