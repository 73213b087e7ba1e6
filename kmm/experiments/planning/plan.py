"""Plan of a comparison: protocol, splits, sizes and the settings of every variant; what a folder was started with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmm.errors import InputError, look_up
from kmm.experiments.planning.protocols import PROTOCOLS, list_deviations
from kmm.experiments.planning.resampling import Resampling
from kmm.experiments.planning.training_sizes import HALVES, check_sizes
from kmm.experiments.planning.variants import list_variants, show_shared
from kmm.presets import gather_settings
from kmm.settings import FitSettings
from kmm.storage.classifier_folder import read_json
from kmm.storage.files import write_json

PLAN = "plan.json"
Gather = Callable[[Mapping[str, Any], Mapping[str, Any]], FitSettings]


@dataclass(frozen=True)
class Plan:
    """What is compared, and how.

    Attributes:
        protocol: str, a key of `PROTOCOLS`.
        resampling: `Resampling`.
        variants: mapping of the name of each variant to its `FitSettings`; a single name is empty.
        changes: mapping of the name of each variant to what it changes.
        tune: bool. Whether pretrained encoders are trained.
        train_sizes: ascending tuple of int: numbers of training studies that are compared beside the whole training
            part, empty for halves of it; None if sizes are not compared.
        wanted: float or None. The area under the ROC curve for which the number of training studies is wanted.
    """

    protocol: str
    resampling: Resampling
    variants: Mapping[str, FitSettings]
    changes: Mapping[str, Mapping[str, Any]]
    tune: bool = False
    train_sizes: tuple[int, ...] | None = None
    wanted: float | None = None

    def share(self, name: str) -> Any:
        """Returns the value of a setting that all variants share; None if it is varied."""
        values = {getattr(settings, name) for settings in self.variants.values()}
        return values.pop() if len(values) == 1 else None

    @property
    def base(self) -> FitSettings:
        """Settings of the first variant, whose seed and shares decide the splits."""
        return next(iter(self.variants.values()))

    @property
    def sizes(self) -> tuple[float, float]:
        """Sizes of what a split does not test, training and validation, and of what it tests: shares, or folds."""
        if self.resampling.folds:
            return self.resampling.folds - 1, 1
        return self.base.shares[0] + self.base.shares[1], self.base.shares[2]

    def describe_parts(self) -> dict[str, float]:
        """Returns the sizes of the training part, without validation unless they are folds, and of the test part, and
        the `ratio` of test to the rest by which the tests across splits are corrected."""
        rest, test = self.sizes
        train = rest if self.resampling.folds else self.base.shares[0]
        return {"n_train": train, "n_test": test, "ratio": test / rest}

    def list_given(self) -> dict[str, str]:
        """Lists the settings that are neither those of the preset nor of the protocol, as on the command line; those
        that are varied are left out, and an absolute path is its last part alone, because pages are shared."""
        base, varied = self.base, {name for change in self.changes.values() for name in change}
        protocol = PROTOCOLS[self.protocol].settings(pretrained=bool(base.image_weights), tune=self.tune)
        usual = gather_settings({"preset": base.preset}, protocol=protocol).as_dict()
        given = {name: value for name, value in base.as_dict().items() if value != usual[name] and name not in varied}
        return {name: show_shared(value) for name, value in given.items()}

    def deviations(self) -> list[str]:
        """Says in one sentence each what is done otherwise than in the published protocol."""
        return list_deviations(
            self.protocol,
            self.variants,
            tune=self.tune,
            splits=self.resampling.count,
            folds=bool(self.resampling.folds),
            plain=self.resampling.plain,
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the plan for JSON."""
        return {
            "protocol": self.protocol,
            "resampling": self.resampling.as_dict(),
            "tune": self.tune,
            "sizes": None if self.train_sizes is None else list(self.train_sizes) or HALVES,
            "variants": {name: settings.as_dict() for name, settings in self.variants.items()},
        }


def make_plan(
    gather: Gather,
    *,
    protocol: str = "quick",
    folds: int | None = None,
    splits: int | None = None,
    repeats: int = 1,
    plain: bool = False,
    vary: Mapping[str, Sequence[Any]] | None = None,
    tune: bool = False,
    sizes: Any = None,
    wanted: float | None = None,
    accelerator: bool = False,
) -> Plan:
    """Makes a plan.

    Args:
        gather: function of the changes of a variant and the settings of the protocol that returns `FitSettings`. What
            the user has set wins over the protocol, and a variant over both.
        protocol: str, a key of `PROTOCOLS`.
        folds, splits: int or None; without both the number of splits is that of the protocol.
        repeats: int. Number of cross-validations.
        plain: bool. Splits study by study, as the paper does.
        vary: mapping of setting name to its values.
        tune: bool. Trains pretrained encoders too.
        sizes: as for `kmm.experiments.planning.training_sizes.check_sizes`.
        wanted: float or None, above 0.5 and below 1; it needs sizes.
        accelerator: bool. Whether this machine has one; then a protocol that tunes encoders does so without `tune`.

    Returns:
        `Plan`.

    Raises:
        InputError: for an unknown name, or values that do not go together.

    Example:
        >>> from kmm.presets import gather_settings
        >>> gather = lambda changes, protocol: gather_settings(changes, protocol=protocol)
        >>> plan = make_plan(gather, protocol="high", vary={"seed": [1, 2]})
        >>> list(plan.variants), plan.base.learning_rate, plan.base.text_epochs, plan.resampling.count
        (['seed=1', 'seed=2'], 0.01, 10, 10)
    """
    entry = look_up(PROTOCOLS, protocol, "protocol")
    tune = tune or (entry.tunes and accelerator)
    if folds is None and splits is None:
        splits = entry.splits
    resampling = Resampling(folds=folds or 0, splits=splits or 0, repeats=repeats, plain=plain)
    settings, changes = {}, {}
    for variant in list_variants(vary or {}):
        pretrained = bool(gather(variant.changes, {}).image_weights)
        settings[variant.name] = gather(variant.changes, entry.settings(pretrained=pretrained, tune=tune))
        changes[variant.name] = variant.changes
    plan = Plan(protocol, resampling, settings, changes, tune, check_sizes(sizes), wanted)
    _check_wanted(plan)
    if not plan.sizes[1]:
        raise InputError(
            f"A comparison needs studies to test. Received: shares {', '.join(map(str, plan.base.shares))}. Give the "
            "third one, of test, more than 0, or choose folds."
        )
    return plan


def _check_wanted(plan):
    if plan.wanted is None:
        return
    if plan.train_sizes is None:
        raise InputError("`wanted` asks how many training studies it would take, which needs `sizes`.")
    if not 0.5 < plan.wanted < 1:
        raise InputError(
            f"`wanted` must be an area under the ROC curve above 0.5 and below 1. Received: {plan.wanted}."
        )


def check_plan(out: Path, plan: Plan, data: str | None = None) -> None:
    """Checks that a folder was started with the same plan, and writes the plan into a new one. Only sizes may be added.

    Args:
        out: path of an existing folder.
        plan: `Plan`.
        data: str. Digest of the data; None before they are read.

    Raises:
        InputError: if it was started with another; it names what changed.
    """
    path, now = out / PLAN, plan.as_dict()
    before = read_json(path) if path.exists() else {}
    if before and (changed := _list_changes(before, {**now, **({"data": data} if data else {})})):
        raise InputError(
            f"{out} holds a comparison that was started with other settings. Changed: {', '.join(changed)}. Give "
            "another --out, or the settings of before."
        )
    if data and before != {**now, "data": data}:
        write_json(path, {**now, "data": data})


def _list_changes(before, now):
    """Names what differs: the settings by their own names."""
    changed = [name for name in now if name not in ("variants", "sizes") and before.get(name) != now[name]]
    changed += [] if _adds_sizes(before.get("sizes"), now["sizes"]) else ["sizes"]
    old, new = before.get("variants", {}), now["variants"]
    if set(old) != set(new):
        return [*changed, "vary"]
    names = {key for name in new for key in new[name] if old[name].get(key) != new[name][key]}
    return [*changed, *sorted(names)]


def _adds_sizes(before, now):
    """Returns whether sizes are those of before, or more: the tasks of before are then still among the tasks."""
    numbers = isinstance(before, list) and isinstance(now, list)
    return before is None or before == now or (numbers and set(before) <= set(now))
