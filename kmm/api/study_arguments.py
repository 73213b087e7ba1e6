"""Read the arguments of a classifier's methods as studies: one film and report, lists of them, collections, tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kmm.api.checks import check_films
from kmm.api.inputs import gather_studies, is_many, make_many, make_study
from kmm.classifier import Classifier
from kmm.data.study import Collection, Study
from kmm.errors import InputError

COLUMNS = "columns"  # in the provenance: the columns of the table that the classifier was trained on


@dataclass(frozen=True)
class StudyArguments:
    """Arguments of a classifier, read by what it was trained on and what it reads.

    `read_many` is called by methods of the public classifier; its warning of missing films names their caller.

    Attributes:
        record: `kmm.classifier.Classifier`.
    """

    record: Classifier

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections of a report that the classifier reads; empty if it reads none."""
        text = self.record.batches.text
        return text.sections if text else ()

    @property
    def reads_films(self) -> bool:
        """Whether the classifier reads films."""
        return self.record.batches.image is not None

    def read_one(self, image: Any, report: str | None) -> Study:
        """Returns the study of a film, a report, or both: see `kmm.api.inputs.make_study`."""
        return make_study(image, report, self.sections, reads_films=self.reads_films)

    def is_one(self, image: Any, images: Any, reports: Any) -> bool:
        """Returns whether the arguments of `predict` name one study."""
        return images is None and reports is None and not is_many(image)

    def read_many(
        self,
        image: Any,
        images: Sequence[Any] | None = None,
        reports: Sequence[str | None] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> Collection:
        """Returns the studies of a collection, a list of `Study` or a table; or of lists of films and reports.

        Args:
            image, images, reports, columns: as for `kmm.Classifier.predict`.

        Raises:
            InputError: if both are given, or one cannot be used.

        Warns:
            UserWarning: if studies lack films that were named for them.
        """
        if images is None and reports is None:
            kept = self.record.provenance.get(COLUMNS, {})
            found = gather_studies(image, kept, columns, self.sections)
        elif image is not None:
            raise InputError("Give either one study, or many as `images=` and `reports=`. Received: both.")
        else:
            found = make_many(images, reports, self.sections)
        check_films(found, reads_films=self.reads_films, stacklevel=4)
        return found

    def with_labels_of(self, collection: Collection) -> Classifier:
        """Returns the record with the scheme `columns` for a table that has the labels by name, and no MeSH terms."""
        known = set(self.record.label_names)
        named = any(set(study.labels) & known for study in collection)
        if not named or any(study.mesh_major or study.mesh_automatic for study in collection):
            return self.record
        return replace(self.record, settings=replace(self.record.settings, labels="columns"))
