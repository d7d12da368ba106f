"""Train the model on chats that are generated on the fly; stop by the clock; resume by itself.

`python -m training.demo.train RUN_DIR --minutes 35`

RUN_DIR must hold the tokenizer. The loss counts the answers only. The learning rate falls with the
time used, so a run of any length ends with a small one; the last part rounds the weights to int4
as the served model will (`--int4-from`), which is why int4 loses nothing.
"""

import argparse
import json
import math
import random
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from training.demo.chat import BOS, END, PAD, Packer
from training.demo.data.dialogues import COPYING_SHARES, SHARES
from training.demo.model import Linear, Llama, Shape, hugging_face_config
from training.demo.muon import Muon

STAGES = (
    (0.0, COPYING_SHARES, ((64, 1.0),)),
    (0.38, SHARES, ((128, 0.40), (256, 0.50), (1024, 0.10))),
)
"""From which share of the time on: the tasks, and how long rows are and how often. Copying is
learnt first, in the shortest chats; everything else rests on it."""
CHECKPOINT_SECONDS = 120


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=float, default=0.02, help="share of the time")
    parser.add_argument("--int4-from", type=float, default=0.75, help="share of the time")
    parser.add_argument("--processes", type=int, default=2, help="one thread each")
    parser.add_argument("--port", type=int, default=29_511)
    parser.add_argument("--start-from", type=Path, help="a finished run to go on from")
    return parser.parse_args(words)


def main() -> None:
    """Train, in as many processes as asked."""
    arguments = parse()
    torch.multiprocessing.spawn(run_process, (arguments,), nprocs=arguments.processes)


def run_process(rank: int, arguments: argparse.Namespace) -> None:
    """Be one of the processes that divide each batch.

    One thread each and one meeting a step: where other programs use the cores too, this is many
    times faster than threads that meet after every operation.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(arguments.seed)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{arguments.port}",
        rank=rank,
        world_size=arguments.processes,
    )
    train(arguments)
    dist.destroy_process_group()


def train(arguments: argparse.Namespace) -> None:
    """Run the loop until the time is used, then write the weights."""
    rank, processes = dist.get_rank(), dist.get_world_size()
    run: Path = arguments.run
    tokenizer = Tokenizer.from_file(str(run / "tokenizer" / "tokenizer.json"))
    shape = Shape(vocab_size=tokenizer.get_vocab_size())
    model = Llama(shape)
    earlier = start_from(arguments.start_from, model) if arguments.start_from else {}
    optimizers = make_optimizers(model, arguments)
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    used, step, tokens = restore(run, model, optimizers)
    packer = Packer(tokenizer, random.Random(f"{arguments.seed} {step} {rank}"))
    pad = tokenizer.token_to_id(PAD)
    loss_of = torch.compile(compute_loss, dynamic=False)
    total, started, saved, shown = arguments.minutes * 60, time.monotonic(), used, used
    base, recent = used, []
    while (used := _agreed(used)) < total:
        share = used / total
        Linear.int4 = share >= arguments.int4_from
        rate = schedule(share, arguments.warmup)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * rate
        packer.shares, rows = [
            stage[1:] for stage in STAGES if arguments.start_from or share >= stage[0]
        ][-1]
        length = row_length(random.Random(step), rows)
        ids, targets, weights = batch(packer, length, pad, arguments.batch_tokens // processes)
        loss = loss_of(model, ids, targets, weights)
        loss.backward()
        average_gradients(model)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step, tokens = step + 1, tokens + ids.numel() * processes
        recent.append(loss.item())
        used = base + time.monotonic() - started
        if step % 20 == 0 and rank == 0:
            mean = sum(recent[-20:]) / len(recent[-20:])
            print(
                f"step {step} loss {mean:.4f} tokens {tokens / 1e6:.2f}M used {used:.0f}s "
                f"rate {rate:.3f} {(step and used - shown) / 20:.2f} s/step",
                flush=True,
            )
            shown = used
        if used - saved > CHECKPOINT_SECONDS and rank == 0:
            saved = used
            checkpoint(run, model, optimizers, used, step, tokens)
    if rank:
        return
    checkpoint(run, model, optimizers, used, step, tokens)
    done = {"minutes": round(used / 60, 1), "steps": step, "tokens": tokens}
    whole = {key: round(value + earlier.get(key, 0), 1) for key, value in done.items()}
    facts = {"seed": arguments.seed, **whole, "earlier": earlier, **asdict(shape)}
    export_weights(run, model, shape, tokenizer, facts)


def start_from(run: Path, model: Llama) -> dict[str, float]:
    """Load the weights of a finished run; return what it took to make them."""
    model.load_state_dict(load_file(run / "weights" / "model.safetensors"))
    facts = json.loads((run / "training.json").read_text(encoding="utf-8"))
    return {key: facts[key] for key in ("seed", "minutes", "steps", "tokens")}


def make_optimizers(model: Llama, arguments: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Give Muon the inner matrices, and AdamW the embeddings, the output and the norms."""
    inner, outer = [], []
    for name, parameter in model.named_parameters():
        (inner if parameter.dim() == 2 and ".layers." in name else outer).append(parameter)
    return [
        Muon(inner, lr=arguments.muon_lr, weight_decay=0.01),
        torch.optim.AdamW(outer, lr=arguments.adam_lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def schedule(share: float, warmup: float) -> float:
    """Rise in a line, then fall along a cosine to 2 %."""
    if share < warmup:
        return max(share / warmup, 0.01)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


def _agreed(used: float) -> float:
    """Take the first process's clock, so that all have one learning rate."""
    clock = torch.tensor(used, dtype=torch.float64)
    dist.broadcast(clock, 0)
    return clock.item()


def average_gradients(model: Llama) -> None:
    """Give every process the mean of all gradients, in one exchange."""
    gradients = [parameter.grad for parameter in model.parameters()]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def row_length(rng: random.Random, rows: tuple[tuple[int, float], ...]) -> int:
    """Draw how long this batch's rows are."""
    (length,) = rng.choices([row[0] for row in rows], [row[1] for row in rows])
    return length


def batch(packer: Packer, length: int, pad: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Make `size` tokens: ids, the ids that follow, and how much each of those counts."""
    ids = torch.full((size // length, length), pad)
    targets, weights = torch.zeros_like(ids), torch.zeros(ids.shape)
    for row in range(size // length):
        tokens, weight = packer.row(length)
        ids[row, : len(tokens)] = torch.tensor(tokens)
        targets[row, : len(tokens) - 1] = torch.tensor(tokens[1:])
        weights[row, : len(tokens) - 1] = torch.tensor(weight[1:])
    return ids, targets, weights


def compute_loss(model: Llama, ids: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Give the mean cross-entropy over the answers; a short answer's tokens count for more."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids)
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def checkpoint(
    run: Path,
    model: Llama,
    optimizers: list[torch.optim.Optimizer],
    used: float,
    step: int,
    tokens: int,
) -> None:
    """Write everything that `restore` needs, in one rename."""
    state = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "progress": (used, step, tokens),
    }
    torch.save(state, run / "checkpoint.tmp")
    (run / "checkpoint.tmp").replace(run / "checkpoint.pt")


def restore(
    run: Path, model: Llama, optimizers: list[torch.optim.Optimizer]
) -> tuple[float, int, int]:
    """Load the last checkpoint, if there is one; return seconds used, steps and tokens."""
    if not (run / "checkpoint.pt").exists():
        return 0.0, 0, 0
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["progress"]


def export_weights(
    run: Path, model: Llama, shape: Shape, tokenizer: Tokenizer, facts: dict[str, object]
) -> None:
    """Write weights and configuration as Hugging Face lays them out, and the run's facts."""
    folder = run / "weights"
    folder.mkdir(exist_ok=True)
    save_file(dict(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    bos, eos, pad = (tokenizer.token_to_id(token) for token in (BOS, END, PAD))
    config = hugging_face_config(shape, bos=bos, eos=eos, pad=pad)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (run / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
