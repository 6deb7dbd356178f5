"""The optimizers of the network: Muon for the matrices of its blocks, AdamW for all else.

Muon moves a matrix by the orthogonal matrix nearest to the running mean of its gradient, so that
what few features ask for moves it as far as what many do (Jordan et al., "Muon: an optimizer for
hidden layers in neural networks", 2024). Its steps are measured in those that AdamW would make
(Liu et al., "Muon is scalable for LLM training", 2025, section 2.2).
"""

from torch.optim import AdamW, Muon, Optimizer

from trajgen.surrogate.transformer import TrajectoryTransformer

#: Learning rate of each optimizer, in that of the settings; ``docs/surrogate.md`` has the trials.
RATES = {"adamw": 1.0, "muon": 2.5}


def make_optimizers(network: TrajectoryTransformer, weight_decay: float) -> dict[str, Optimizer]:
    """Return the optimizers of a network, by name; each of its weights is in one of them."""
    matrices = [
        weights
        for name, weights in network.blocks.named_parameters()
        if weights.ndim == 2 and ".adapt." not in name
    ]
    held = {id(matrix) for matrix in matrices}
    others = [weights for weights in network.parameters() if id(weights) not in held]
    return {
        "adamw": AdamW(others, weight_decay=weight_decay, fused=True),
        "muon": Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
    }


def set_learning_rate(optimizers: dict[str, Optimizer], rate: float) -> None:
    """Let the next step go by a learning rate."""
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = RATES[name] * rate
