"""Tasks of a plan: every variant and size on every split, and the order in which workers begin them."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import zip_longest

from kmm.data.study import Study
from kmm.experiments.planning.plan import Plan
from kmm.experiments.planning.resampling import restrict_split
from kmm.experiments.planning.training_sizes import choose_sizes, shrink_split
from kmm.experiments.tasks.explanations import share_out
from kmm.experiments.tasks.task import Task, digest_facts, digest_task_code, make_key
from kmm.rules.rule_scheme import find_rules
from kmm.settings import FitSettings
from kmm.training.preparation.prepared_studies import PreparedStudies, make_maker


def key_preparation(settings: FitSettings) -> str:
    """Returns the digest of the settings that decide what is prepared: labels, films and the text of reports.

    Example:
        >>> one, other = FitSettings(), FitSettings(sections=("findings",))
        >>> key_preparation(one) == key_preparation(FitSettings(seed=3)), key_preparation(one) == key_preparation(other)
        (True, False)
    """
    labels = {name: getattr(settings, name) for name in ("labels", "label_min_count", "not_findings", "strict")}
    if rules := find_rules(settings.labels):
        labels["labels"] = rules.digest
    return digest_facts({**labels, "maker": make_maker(settings, ()).as_dict()})[:16]


def list_tasks(
    plan: Plan, prepared: Mapping[str, PreparedStudies], keys: Mapping[str, str], *, explain: int = 0
) -> list[Task]:
    """Lists the tasks of a plan: every variant on every split, split by split, the whole training part first.

    Args:
        plan: `Plan`.
        prepared: mapping of the key of a preparation to `PreparedStudies`.
        keys: mapping of variant to the key of its preparation.
        explain: int. Number of studies of a variant to explain, as for `compare_studies`.

    Returns:
        list of `Task`. Variants share the splits, also those that read other studies, and the smaller training parts.
        Only tasks with the whole training part explain studies.

    Raises:
        InputError: if a size of the plan cannot be made.
    """
    studies: dict[str, Study] = {}
    for one in prepared.values():
        studies = {study.id: study for study in one.studies} | studies
    first = prepared[keys[next(iter(keys))]]
    splits = plan.resampling.make(
        list(studies.values()), shares=plan.base.shares, seed=plan.base.seed, label_names=first.candidates
    )
    digests = {key: one.digest() for key, one in prepared.items()}
    plain, code, tasks = plan.resampling.plain, digest_task_code(), []
    shares = share_out(explain, len(splits))
    own = [restrict_split(split, one.studies) for split in splits for one in prepared.values()]
    sizes = [] if plan.train_sizes is None else choose_sizes(own, plan.train_sizes)
    shrink = partial(shrink_split, studies=list(studies.values()), label_names=first.candidates, plain=plain)
    for number, whole in enumerate(splits, start=1):
        for size in (0, *sizes):
            split = shrink(whole, size=size, seed=plan.base.seed + number) if size else whole
            for variant, settings in plan.variants.items():
                key = keys[variant]
                parts = restrict_split(split, prepared[key].studies)
                full = make_key(settings, parts, digests[key], plain=plain, size=size)
                explained = 0 if size else shares[number - 1]
                tasks.append(Task(str(number), variant, settings, key, parts, plain, full, code, explained, size))
    return tasks


def order_tasks(tasks: Sequence[Task], workers: int) -> list[Task]:
    """Orders tasks so that those of a split and size follow each other, while several workers begin with different
    ones: a stage that such tasks share is then finished when the second one wants it.

    Args:
        tasks: sequence of `Task`.
        workers: int >= 1.

    Returns:
        list of `Task`: the splits, each with every size, in groups of as many as there are workers; in a group, the
        first task of each split, then the second, and so on.

    Example:
        >>> from types import SimpleNamespace
        >>> tasks = [SimpleNamespace(split_name=split, variant=name, size=0) for split in "123" for name in "ab"]
        >>> " ".join(task.split_name + task.variant for task in order_tasks(tasks, 2))
        '1a 2a 1b 2b 3a 3b'
    """
    splits: dict[tuple[str, int], list[Task]] = {}
    for task in tasks:
        splits.setdefault((task.split_name, task.size), []).append(task)
    groups = [list(splits.values())[start : start + workers] for start in range(0, len(splits), workers)]
    return [task for group in groups for turn in zip_longest(*group) for task in turn if task is not None]
