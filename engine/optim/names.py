"""Optimizers and schedules of the learning rate by name; a configuration is checked by them."""

# Dotted paths, imported where one is built.
OPTIMIZERS = {"adamw": "torch.optim.AdamW", "sgd": "torch.optim.SGD"}
SCHEDULES = ("cosine", "step", "plateau", "one_cycle", "constant")
# Parameters that only some schedules read; a configuration that gives one to another is refused.
TAKEN_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("step_epochs", "step_size", "gamma"), ("step",)),
    **dict.fromkeys(("pct_start", "div_factor", "final_div_factor"), ("one_cycle",)),
    **dict.fromkeys(
        ("monitor", "mode", "factor", "patience", "cooldown", "threshold", "threshold_mode"),
        ("plateau",),
    ),
    "min_lr": ("cosine", "step", "plateau", "one_cycle"),
}
