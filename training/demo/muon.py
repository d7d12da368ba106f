"""Muon: momentum whose matrices are made orthogonal before each step.

Needs about half the tokens of AdamW here. Matrices of one shape are handled together: on a CPU that is
many times faster than `torch.optim.Muon`, which takes them one at a time.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, from Keller Jordan's Muon."""


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum with Nesterov look-ahead, for matrices only."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        rounds: int = 5,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "rounds": rounds,
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take one step with the gradients at hand."""
        for group in self.param_groups:
            same_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                same_shape[parameter.shape].append(parameter)
            for shape, parameters in same_shape.items():
                updates = self._updates(parameters, group["momentum"])
                factor = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                steps = _shared(updates, group["rounds"])
                for parameter, update in zip(parameters, steps, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-factor)

    def _updates(self, parameters: list[nn.Parameter], momentum: float) -> Tensor:
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1 - momentum)
            updates.append(parameter.grad.lerp(state["momentum"], momentum))
        return torch.stack(updates)


def _shared(updates: Tensor, rounds: int) -> Tensor:
    """Divide the matrices between the processes: each makes its part, all get the whole."""
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    done = torch.zeros_like(updates)
    done[mine] = orthogonal(updates[mine], rounds)
    dist.all_reduce(done)
    return done


def orthogonal(matrices: Tensor, rounds: int) -> Tensor:
    """Bring the singular values of every matrix near one, by Newton-Schulz iteration.

    In bfloat16, which the iteration bears and a processor with AVX512_BF16 does almost four times faster.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)
