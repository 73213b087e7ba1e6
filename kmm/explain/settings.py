"""Settings of an explanation, each default beside its meaning."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kmm.errors import InputError

FIRST_STEPS = 5  # points of a path under the midpoint rule, before any refinement
OUTPUTS = ("logit", "probability")
POSITIVE, ALL = "positive", "all"  # in `targets`: labels at or above their thresholds, and all labels
SENSITIVITY_FILE = "sight_sensitivity.json"  # in a classifier's folder: the sensitivity chosen on validation films


@dataclass(frozen=True)
class RegionSettings:
    """Settings that turn an attribution map into circles.

    Attributes:
        sensitivity: float in [0, 1]. Sight sensitivity: the higher, the fewer points remain, the strongest ones.
        rule: name in `kmm.explain.regions.find.THRESHOLD_RULES`: derives the threshold from the sensitivity.
        smoothing: float >= 0. Standard deviation of the Gaussian that smooths the map first, as a share of the map's
            diagonal.
        cluster: name in `kmm.explain.regions.clusters.CLUSTERINGS`.
        distance: float > 0 or None. Points closer than this many pixels of the map belong to one cluster; None: 1.5 %
            of the map's diagonal, but at least 1.5 pixels.
        min_points: int >= 1. Smaller clusters are dropped.
        circle: name in `kmm.explain.regions.circles.CIRCLES`.
        radius_quantile: float in (0, 1]. For the circle `"quantile"`: the share of a cluster's points inside it.
    """

    sensitivity: float = 0.8
    rule: str = "mass"
    smoothing: float = 0.03
    cluster: str = "single-linkage"
    distance: float | None = None
    min_points: int = 5
    circle: str = "centroid"
    radius_quantile: float = 0.9


@dataclass(frozen=True)
class ExplainSettings:
    """Settings of an explanation. Every field is a plain value that JSON can hold.

    Attributes:
        method: name in `kmm.explain.attribution.methods.METHODS`.
        target: str or None. Label to explain; None: each study's most probable one.
        targets: tuple of str. Several labels to explain for each study, instead of `target`: names of labels, `"all"`,
            or `"positive"` (those at or above their thresholds). If the model has a label named `all` or `positive`,
            that label is meant. Empty: one label.
        output: `"logit"` or `"probability"` (calibrated): the score that is explained.
        baselines: tuple of names in `kmm.explain.attribution.baselines.IMAGE_BASELINES`; several are averaged.
        text_baseline: name in `kmm.explain.attribution.baselines.TEXT_BASELINES`.
        rule: name in `kmm.explain.attribution.quadrature.QUADRATURE_RULES`.
        steps: int or None. Points of the path; None: with the midpoint rule, as many as the tolerances need. For
            SmoothGrad: noisy samples, 25 by default. For Score-CAM: channels, all by default.
        map_tolerance, gap_tolerance: float > 0. Relative errors below which a study needs no more points.
        max_steps: int >= 5. Most points on the path from one baseline; a study that still misses a tolerance carries
            a warning.
        layer: str or None. For methods of the Grad-CAM family: the layer of the image encoder whose maps are weighted;
            None: the last feature map.
        memory_gb: float > 0. Peak memory of the process, in units of 10^9 bytes.
        regions: `RegionSettings`.
    """

    method: str = "integrated-gradients"
    target: str | None = None
    targets: tuple[str, ...] = ()
    output: str = "logit"
    baselines: tuple[str, ...] = ("black",)
    text_baseline: str = "padding"
    rule: str = "midpoint"
    steps: int | None = None
    map_tolerance: float = 0.05
    gap_tolerance: float = 0.01
    max_steps: int = 216
    layer: str | None = None
    memory_gb: float = 3.0
    regions: RegionSettings = RegionSettings()

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise InputError(f"`output` must be one of {', '.join(OUTPUTS)}. Received: {self.output!r}.")
        if not self.baselines:
            raise InputError("`baselines` must name at least one baseline. Received none.")
        for name in ("map_tolerance", "gap_tolerance", "memory_gb"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"`{name}` must be a number above 0. Received: {getattr(self, name)!r}.")
        if self.max_steps < FIRST_STEPS:
            raise InputError(f"`max_steps` must be at least {FIRST_STEPS}. Received: {self.max_steps!r}.")

    def as_dict(self) -> dict[str, Any]:
        """Returns the settings as a dict that JSON can hold."""
        return {**dataclasses.asdict(self), "targets": list(self.targets), "baselines": list(self.baselines)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], regions: RegionSettings | None = None) -> Self:
        """Makes settings from the dict that `as_dict` returned.

        Args:
            values: mapping. A missing setting gets its default.
            regions: `RegionSettings` that replace those in `values`; None: those in `values`.

        Raises:
            InputError: if a setting is unknown or out of range.
        """
        try:
            made = dict(values)
            made["regions"] = regions or RegionSettings(**made.get("regions", {}))
            for name in ("targets", "baselines"):
                made[name] = tuple(made.get(name, getattr(cls, name)))
            return cls(**made)
        except TypeError as error:
            raise InputError(f"The settings of an explanation cannot be read: {error}.") from None
