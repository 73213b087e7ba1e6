"""Settings of an explanation, each default beside its meaning."""

import dataclasses
import math
from dataclasses import dataclass

from kmm.errors import InputError

FIRST_STEPS = 5  # of a path by the midpoint rule, before it is refined
OUTPUTS = ("logit", "probability")
POSITIVE, ALL = "positive", "all"  # in `targets`: labels at or above their thresholds, and all labels
SENSITIVITY_FILE = "sight_sensitivity.json"  # beside a classifier: what was chosen for it on validation


@dataclass(frozen=True)
class RegionSettings:
    """How a map becomes circles.

    Attributes:
        sensitivity: float in [0, 1]. Sight sensitivity: the higher, the fewer and stronger the points that stay.
        rule: name in `kmm.explain.regions.find.RULES`: how the threshold follows from the sensitivity.
        smoothing: float >= 0. Standard deviation of the Gaussian that smooths the map first, as a share of the map's
            diagonal.
        cluster: name in `kmm.explain.regions.clusters.CLUSTERINGS`.
        distance: float > 0 or None. Points nearer than this many pixels of the map are of one cluster; None: 1.5 % of
            the map's diagonal, and 1.5 pixels at least.
        min_points: int >= 1. Smaller clusters are dropped.
        circle: name in `kmm.explain.regions.find.CIRCLES`.
        radius_quantile: float in (0, 1]. For the circle `"quantile"`: the share of the members that it holds.
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
    """How studies are explained. Every field is a plain value, for JSON.

    Attributes:
        method: name in `kmm.explain.attribution.methods.METHODS`.
        target: str or None. Label to explain; None: each study's most probable one.
        targets: tuple of str. Several labels to explain of each study, instead of `target`: names of labels, `"all"`,
            or `"positive"`: those at or above their thresholds. A label that is named so goes first. Empty: one label.
        output: `"logit"` or `"probability"` (calibrated): the score that is explained.
        baselines: tuple of names in `kmm.explain.attribution.baselines.IMAGE_BASELINES`; several are averaged.
        text_baseline: name in `kmm.explain.attribution.baselines.TEXT_BASELINES`.
        rule: name in `kmm.explain.attribution.quadrature.RULES`.
        steps: int or None. Points of the path; None: as many as the tolerances need, with the midpoint rule.
        map_tolerance, gap_tolerance: float > 0. Relative errors at which a study is done.
        max_steps: int >= 5. No refinement takes more on the path from a baseline; what misses a tolerance there carries
            a warning.
        layer: str or None. For methods of the Grad-CAM family: the layer of the image encoder whose maps are weighed;
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

    def __post_init__(self):
        if self.output not in OUTPUTS:
            raise InputError(f"`output` must be one of {', '.join(OUTPUTS)}. Received: {self.output!r}.")
        if not self.baselines:
            raise InputError("`baselines` must name at least one baseline. Received none.")
        for name in ("map_tolerance", "gap_tolerance", "memory_gb"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"`{name}` must be a number above 0. Received: {getattr(self, name)!r}.")
        if self.max_steps < FIRST_STEPS:
            raise InputError(f"`max_steps` must be at least {FIRST_STEPS}. Received: {self.max_steps!r}.")

    def as_dict(self):
        """Returns the settings as a dict that JSON can hold."""
        return {**dataclasses.asdict(self), "targets": list(self.targets), "baselines": list(self.baselines)}

    @classmethod
    def from_dict(cls, values, regions=None):
        """The inverse of `as_dict`.

        Args:
            values: dict. A setting that it lacks has its default.
            regions: `RegionSettings`, instead of those in `values`.

        Raises:
            InputError: if a setting is not known or out of its range.
        """
        try:
            made = dict(values)
            made["regions"] = regions or RegionSettings(**made.get("regions", {}))
            for name in ("targets", "baselines"):
                made[name] = tuple(made.get(name, getattr(cls, name)))
            return cls(**made)
        except TypeError as error:
            raise InputError(f"Not settings of an explanation: {error}.") from None
