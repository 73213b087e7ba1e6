"""Compare models and baselines over many splits, from Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm.api.checks import check_films
from kmm.api.fitting import FOLDER, choose_settings, naming_arguments
from kmm.data.study import Collection
from kmm.engines.runners import choose_runner
from kmm.errors import InputError, check_path
from kmm.experiments.comparison import Comparison
from kmm.experiments.planning.plan import make_plan
from kmm.experiments.run_comparison import compare_studies
from kmm.keras_backend import has_accelerator
from kmm.progress import Progress, choose_progress
from kmm.training.run_folders import CACHE

ARGUMENTS = {"--out": "out=", "--plain-split": "plain_split=True", "--tune": "tune=True"}  # by option


def compare(
    studies: Collection,
    *,
    out: Path | str,
    protocol: str = "quick",
    folds: int | None = None,
    splits: int | None = None,
    repeats: int = 1,
    plain_split: bool = False,
    vary: Mapping[str, Sequence[Any]] | None = None,
    tune: bool = False,
    sizes: bool | Sequence[int] | None = None,
    wanted: float | None = None,
    preset: str = "small",
    workers: int = 1,
    engine: str | None = None,
    address: str | None = None,
    keep_models: bool = False,
    explain: int = 0,
    predictions: str = "csv",
    cache: Path | str | None = None,
    progress: bool | Progress = True,
    **settings: Any,
) -> Comparison:
    """Trains the image, text and joint model on many splits, and compares them with each other and with baselines.

    The same call continues a comparison that was interrupted.

    Args:
        studies: `Collection` of `kmm.read` or `kmm.studies`.
        out: path of the folder of the comparison.
        protocol: `"high"` or `"low"`, as published, or `"quick"`; see `kmm.experiments.planning.protocols.PROTOCOLS`.
        folds: int, folds of a cross-validation; or
        splits: int, number of repeated splits. Without both it is the protocol's number.
        repeats: int. Number of cross-validations.
        plain_split: bool. Splits study by study, as the paper does; such splits leak.
        vary: mapping of setting name to two or more values, which are compared on the same splits.
        tune: bool. Trains pretrained encoders too, without an accelerator as well.
        sizes: sequence of int, numbers of training studies on which models are trained too, beside the whole training
            part; True halves it until about 100 are left. `docs/compare.md` says what becomes of them.
        wanted: float, the area under the ROC curve for which the number of training studies is wanted, with sizes.
        preset: str, a name in `kmm.presets.PRESETS`.
        workers: int. Number of processes.
        engine: `"process"`, `"workers"` or `"ray"`; None chooses by `workers`.
        address: str. Address of a Ray cluster.
        keep_models: bool. Keeps the classifier of every task, in `out/models`.
        explain: int. Most studies of each variant that the joint model mends, and most that it breaks, that are
            explained, in `out/explanations`.
        predictions: `"csv"` or `"parquet"`.
        cache: path of the folder of classifiers whose cache is used; None for `saved_models`.
        progress: bool, whether to show progress; or a `Progress`.
        settings: any setting of `kmm.settings.FitSettings` by name, as for `kmm.fit`; they win over the protocol.

    Returns:
        `Comparison`. Splits that failed are listed in its `summary`.

    Raises:
        InputError: if a setting or the data cannot be used, the folder holds another comparison, or every split failed.

    Warns:
        UserWarning: if studies lack films and are used with their reports alone.
    """
    check_path("out", out)
    if not isinstance(studies, Collection):
        raise InputError(
            f"The studies must be made by `kmm.read` or `kmm.studies`. Received: {type(studies).__name__}."
        )
    if not isinstance(explain, int) or explain < 0:
        raise InputError(f"`explain` must be a whole number, at least 0. Received: {explain!r}.")
    shown = progress if isinstance(progress, Progress) else choose_progress() if progress else Progress()
    check_films(studies, reads_films=settings.get("image_encoder", "") not in (None, "none"))
    given = {"preset": preset, **settings}
    silent = Progress()
    with naming_arguments(ARGUMENTS):
        choose_settings(studies, given, shown)
        plan = make_plan(
            lambda changes, base: choose_settings(studies, {**given, **changes}, silent, base),
            protocol=protocol,
            folds=folds,
            splits=splits,
            repeats=repeats,
            plain=plain_split,
            vary=vary,
            tune=tune,
            sizes=sizes,
            wanted=wanted,
            accelerator=has_accelerator(),
        )
        runner = choose_runner(engine or ("workers" if workers > 1 else "process"), count=workers, address=address)
        return compare_studies(
            studies,
            plan,
            out,
            cache=Path(FOLDER if cache is None else cache) / CACHE,
            runner=runner,
            keep_models=keep_models,
            explain=explain,
            predictions=predictions,
            progress=shown,
        )
