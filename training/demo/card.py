"""Write the model card from the measured counts of each precision.

`python -m training.demo.card models/demo RUN_DIR int4=a.json int8=b.json fp32=c.json`
"""

import argparse
import json
from pathlib import Path

import jinja2

LABELS = {
    "arithmetic": "sums and differences, two digits",
    "sentiment": "sentiment",
    "extraction": "fields as JSON",
    "summary": "one-sentence summaries",
    "facts": "questions about Lepton",
    "smalltalk": "small talk, and declining what it does not know",
    "echo": "words said again",
    "second_turn": "second turn rests on an earlier one",
    "system_prompt": "system prompt obeyed",
    "long_chat": "last answer of a chat of 12 turns",
}
TARGETS = {
    "arithmetic": 0.97,
    "sentiment": 0.99,
    "extraction": 0.99,
    "second_turn": 0.95,
    "system_prompt": 0.95,
}
Counts = dict[str, dict[str, int]]


def write(folder: Path, run: Path, counts: dict[str, Counts], overlap: str) -> str:
    """Render the card; return it and write it to the folder's README.md."""
    template = Path(__file__).with_name("card.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown, not a page
    )
    config = (folder / "weights" / "config.json").read_text(encoding="utf-8")
    text = environment.from_string(template).render(
        precisions=list(counts),
        rows=[_row(task, label, counts) for task, label in LABELS.items()],
        sorts=_sorts(counts["int4"]),
        missed=_missed(counts["int4"]),
        config=json.loads(config),
        training=json.loads((run / "training.json").read_text(encoding="utf-8")),
        overlap=overlap,
        sizes={path.name: path.stat().st_size / 1e6 for path in folder.rglob("model.*")},
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    return text


def _row(task: str, label: str, counts: dict[str, Counts]) -> dict[str, object]:
    return {
        "label": label,
        "n": counts["int4"][task]["n"],
        "target": TARGETS.get(task),
        "shares": [_share(found[task]) for found in counts.values()],
    }


def _sorts(counts: Counts) -> list[tuple[str, int, int]]:
    """Give the sorts within second turns and system prompts."""
    wanted = ("second_turn/", "system_prompt/")
    return [(key, c["right"], c["n"]) for key, c in counts.items() if key.startswith(wanted)]


def _missed(counts: Counts) -> list[str]:
    return [LABELS[task] for task, goal in TARGETS.items() if _share(counts[task]) < goal]


def _share(count: dict[str, int]) -> float:
    return count["right"] / count["n"]


def main() -> None:
    """Parse the arguments, write the card and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--overlap", default="", help="what training.demo.overlap found, a sentence"
    )
    parser.add_argument("counts", nargs="+", help="PRECISION=FILE, int4 first")
    arguments = parser.parse_args()
    named = dict(pair.split("=", 1) for pair in arguments.counts)
    counts = {key: json.loads(Path(file).read_text("utf-8")) for key, file in named.items()}
    print(write(arguments.folder, arguments.run, counts, arguments.overlap))


if __name__ == "__main__":
    main()
