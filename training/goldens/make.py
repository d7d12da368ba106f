"""Makes tests/goldens: tiny models, their exports, and what transformers answers in fp32.

    python -m training.goldens.make tiny [NAME …]
    python -m training.goldens.make optimum [NAME …]
    python -m training.goldens.make demo [--weights models/demo/weights --tokenizer models/demo]

Needs torch, transformers and onnxruntime-genai (training/demo/requirements.txt), `optimum` an older transformers and
optimum-onnx (training/goldens/requirements-optimum.txt), which shipped code and tests never import.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.goldens.tiny_models import TINY_MODELS, make_tiny_model

ROOT: Final = Path(__file__).resolve().parents[2]
GOLDENS: Final = ROOT / "tests" / "goldens"
EXPORTER: Final = ROOT / "convert" / "exporter.py"
EXPORTS: Final = {
    "fp32": ("fp32", ["windowed_kv_cache=false"]),
    "int4": ("int4", ["windowed_kv_cache=false", "block_size=32", "accuracy_level=4"]),
    "int4-block64": ("int4", ["windowed_kv_cache=false", "block_size=64", "accuracy_level=4"]),
}
OPTIMUM: Final = "optimum"
TINY_EXPORTS: Final = {
    name: (OPTIMUM,) if name.startswith("tiny-optimum-") else ("fp32",) for name in TINY_MODELS
} | {"tiny-llama": tuple(EXPORTS)}
KEPT: Final = (
    "genai_config.json",
    "model.onnx",
    "model.onnx.data",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)

TINY_PROMPTS: Final[tuple[str, ...]] = (
    "a",
    "the router",
    "one two three four five six seven eight nine ten",
    "ünïcödé, 漢字 and 🙂",
    "the request the request the request the request the request the request the request",
)
DEMO_DIALOGUES: Final[tuple[tuple[dict[str, str], ...], ...]] = (
    ({"role": "user", "content": "What is Lepton?"},),
    ({"role": "user", "content": "What is 12 + 34?"},),
    ({"role": "user", "content": "hi"},),
    ({"role": "user", "content": "Is this positive or negative? I love the new phone."},),
    (
        {"role": "user", "content": "What is 20 + 31?"},
        {"role": "assistant", "content": "51"},
        {"role": "user", "content": "What does the router do?"},
    ),
)


def export_optimum(source: Path, target: Path) -> None:
    """Runs Optimum's exporter: one graph that takes its past and returns it longer."""
    from optimum.exporters.onnx import main_export

    with tempfile.TemporaryDirectory() as scratch:
        main_export(str(source), scratch, task="text-generation-with-past", do_validation=False)
        keep(Path(scratch), target, (*KEPT, "config.json", "generation_config.json"))


def keep(made: Path, target: Path, names: Sequence[str]) -> None:
    """Copies those of `names` that were made."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (made / name).exists():
            (target / name).write_bytes((made / name).read_bytes())


def export(source: Path, target: Path, precision: str, options: list[str], cache: Path) -> None:
    """Runs the builder and keeps the files that we serve."""
    out = cache / f"{source.name}-{precision}"
    command = [
        sys.executable, str(EXPORTER), "-i", str(source), "-o", str(out),
        "-p", precision, "-e", "cpu", "-c", str(cache / "cache"),
    ]  # fmt: skip
    if options:
        command += ["--extra_options", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    keep(out, target, KEPT)


@torch.no_grad()
def answer(
    model: Any, prompt_ids: list[int], num_tokens: int, *, keep_logits: bool
) -> dict[str, Any]:
    """Greedy tokens, the smallest lead of a winner over the second, and the logits after prompt and answer."""
    ids, logits, leads = list(prompt_ids), [], []
    for _ in range(num_tokens):
        row = model(torch.tensor([ids])).logits[0, -1].float()
        best = torch.topk(row, 2).values
        leads.append(float(best[0] - best[1]))
        logits.append([round(float(value), 5) for value in row])
        ids.append(int(row.argmax()))
    golden: dict[str, Any] = {
        "prompt_ids": prompt_ids,
        "greedy_ids": ids[len(prompt_ids) :],
        "smallest_lead": round(min(leads), 5),
    }
    if keep_logits:
        golden |= {"first_logits": logits[0], "last_logits": logits[-1]}
    return golden


def made_with() -> dict[str, str]:
    packages = (
        "torch", "transformers", "tokenizers", "onnxruntime-genai", "onnxruntime", "optimum-onnx",
    )  # fmt: skip
    installed = {name for found in distributions() if (name := found.metadata["Name"]) in packages}
    return {
        "python": platform.python_version(),
        **{n: version(n) for n in packages if n in installed},
    }


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")


def make_tiny(name: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / name
        make_tiny_model(name, source)
        for label in TINY_EXPORTS[name]:
            if label == OPTIMUM:
                export_optimum(source, GOLDENS / name / "fp32")
            else:
                precision, options = EXPORTS[label]
                export(source, GOLDENS / name / label, precision, options, Path(scratch))
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
        cases = []
        for text in TINY_PROMPTS:
            ids = tokenizer.encode(text, add_special_tokens=False)
            cases.append({"prompt": text} | answer(model, ids, 24, keep_logits=True))
        dialogue = [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "is it 7 or 8?"},
        ]
        ids = tokenizer.apply_chat_template(dialogue, add_generation_prompt=True, return_dict=False)
        cases.append({"messages": dialogue} | answer(model, list(ids), 24, keep_logits=True))
        write(GOLDENS / name / "golden.json", {"made_with": made_with(), "cases": cases})
        print(name, [case["smallest_lead"] for case in cases])


def make_demo(weights: Path, tokenizer_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()
    end = model.config.eos_token_id
    ends = set(end) if isinstance(end, list) else {end}
    cases = []
    for dialogue in DEMO_DIALOGUES:
        ids = tokenizer.apply_chat_template(
            list(dialogue), add_generation_prompt=True, return_dict=False
        )
        golden = answer(model, list(ids), 48, keep_logits=False)
        greedy = golden["greedy_ids"]
        stop = next((at for at, token in enumerate(greedy) if token in ends), len(greedy))
        text = tokenizer.decode(greedy[:stop], skip_special_tokens=True)
        cases.append(
            {"messages": list(dialogue), "text": text} | golden | {"greedy_ids": greedy[: stop + 1]}
        )
        print(text)
    write(GOLDENS / "demo.json", {"made_with": made_with(), "cases": cases})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("tiny", "optimum", "demo"))
    parser.add_argument("names", nargs="*", help="of tiny models; default: all")
    parser.add_argument(
        "--weights",
        type=Path,
        default=Path("models/demo/weights"),
        help="safetensors and config.json of the demo model",
    )
    parser.add_argument(
        "--tokenizer", type=Path, default=Path("models/demo"), help="folder of its tokenizer"
    )
    arguments = parser.parse_args()
    if arguments.what == "demo":
        make_demo(arguments.weights, arguments.tokenizer)
        return
    for name in arguments.names or TINY_MODELS:
        if (TINY_EXPORTS[name] == (OPTIMUM,)) == (arguments.what == OPTIMUM):
            make_tiny(name)


if __name__ == "__main__":
    main()
