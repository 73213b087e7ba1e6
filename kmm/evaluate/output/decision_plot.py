"""Plot decision curves as PNG, SVG or PDF files, like the plots of `kmm.evaluate.output.plots`."""

from collections.abc import Sequence
from pathlib import Path

from kmm.evaluate.decisions.decision_curve import compute_decision_curve
from kmm.evaluate.output.figure_files import GREY, LEGEND, list_looks
from kmm.evaluate.output.label_panels import Curves, plot_panels


def plot_decision_curve(
    curves: Curves, path: Path | str, *, label_names: Sequence[str] | None = None, caption: str = ""
) -> Path:
    """Plots net benefit against threshold probability, with those of treating all studies and none dotted.

    Source: https://doi.org/10.1177/0272989X06295361

    Args:
        curves, path, label_names, caption: as in `kmm.evaluate.output.plots.plot_roc`.

    Returns:
        Path of the plot.

    Raises:
        InputError: if there is no curve, or shapes, values or names do not match.
    """

    def draw(axes, pairs, label):
        found = {name: compute_decision_curve(*pair, repeats=0) for name, pair in pairs.items()}
        for (name, curve), look in zip(found.items(), list_looks()):
            axes.plot(curve.thresholds, curve.net_benefit, label=name, **look)
        first = next(iter(found.values()))
        axes.plot(first.thresholds, first.treat_all, color=GREY, linewidth=0.8, linestyle=":", label="all and none")
        axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
        most = max(curve.net_benefit.max() for curve in found.values())
        axes.set_ylim(-0.2 * max(most, 0.05), 1.2 * max(most, first.n_positive / first.n))
        axes.legend(title="Net benefit", loc="upper right", **LEGEND)

    labels = ("Threshold probability", "Net benefit")
    return plot_panels(curves, path, label_names, draw, "Decision curve", labels, caption)
