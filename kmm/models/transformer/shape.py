"""Shape of a transformer, as plain values for JSON."""

from dataclasses import dataclass

from kmm.errors import InputError, look_up

ACTIVATIONS = {  # of the hidden layer: names of Keras
    "gelu": "gelu",  # exact, by the error function
    "gelu-tanh": "gelu_tanh",  # its approximation by tanh, see `kmm.models.transformer.attention`
    "relu": "relu",
}
MOST = {"layers": 100, "heads": 256, "width": 16384, "hidden": 65536, "positions": 65536}


@dataclass(frozen=True, kw_only=True)
class TransformerShape:
    """Shape of a transformer. The defaults are those of BERT-base.

    Attributes:
        layers: int. Number of blocks.
        heads: int. Heads of attention, a divisor of `width`.
        width: int. Numbers per place.
        hidden: int. Width of the hidden layer of a block.
        activation: str, a key of `ACTIVATIONS`.
        epsilon: float > 0. Number that layer normalisation adds to the variance.
        positions: int. Most places, with the marks at the beginning and at the end.

    Raises:
        InputError: if a number is out of range, or the activation is unknown.

    Example:
        >>> TransformerShape(width=10, heads=3)
        Traceback (most recent call last):
        kmm.errors.InputError: The width of a transformer must be a multiple of its heads. Received: 10 and 3 heads.
    """

    layers: int = 12
    heads: int = 12
    width: int = 768
    hidden: int = 3072
    activation: str = "gelu"
    epsilon: float = 1e-12
    positions: int = 512

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise InputError(f"A transformer must have 1 to {most} {name}. Received: {value!r}.")
        if self.width % self.heads:
            raise InputError(
                f"The width of a transformer must be a multiple of its heads. Received: {self.width} and {self.heads} "
                "heads."
            )
        look_up(ACTIVATIONS, self.activation, "activation of a transformer")
        if not isinstance(self.epsilon, int | float) or not 0 < self.epsilon < 1:
            raise InputError(f"The epsilon of a transformer must be in (0, 1). Received: {self.epsilon!r}.")
