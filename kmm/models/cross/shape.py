"""Shape of the fusion `cross-attention`, as plain values for JSON."""

from dataclasses import dataclass

from kmm.errors import InputError

RANGES = {"layers": (1, 24), "heads": (1, 64), "width": (1, 8192), "adapter": (0, 8192)}


@dataclass(frozen=True, kw_only=True)
class CrossShape:
    """Shape of the fusion `cross-attention`.

    Attributes:
        layers: int. Layers in which film and report read each other; each reads the rows of the layer before.
        heads: int. Heads of attention, a divisor of `width`.
        width: int. Numbers per place of the film and per word.
        adapter: int. Width of a narrow layer behind each layer; 0 for none.
        stochastic_depth: float in [0, 1). Fraction of the training studies for which the last layer is skipped; lower
            layers are skipped less often.

    Raises:
        InputError: if a number is out of range.

    Example:
        >>> CrossShape(width=10, heads=4)
        Traceback (most recent call last):
        kmm.errors.InputError: `fusion_width` must be a multiple of `fusion_heads`. Received: 10 and 4.
    """

    layers: int = 2
    heads: int = 4
    width: int = 128
    adapter: int = 0
    stochastic_depth: float = 0.1

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InputError(f"`fusion_{name}` must be from {least} to {most}. Received: {value!r}.")
        if self.width % self.heads:
            raise InputError(
                f"`fusion_width` must be a multiple of `fusion_heads`. Received: {self.width} and {self.heads}."
            )
        if not isinstance(self.stochastic_depth, int | float) or not 0 <= self.stochastic_depth < 1:
            raise InputError(f"`stochastic_depth` must be in [0, 1). Received: {self.stochastic_depth!r}.")
