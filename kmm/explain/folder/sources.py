"""Sources of a folder's explanations: the model, or the maps that an earlier run stored."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kmm.data.study import Problem, Study
from kmm.errors import ImageError, InputError
from kmm.explain.explanation import Explanation
from kmm.explain.folder.maps import place_of, read_map
from kmm.explain.settings import ExplainSettings
from kmm.keras_backend import silence_libraries

if TYPE_CHECKING:
    from kmm.explain.explainer import Explainer


class ModelSource:
    """Explains studies with a saved classifier. Before `load` is called it can be pickled and sent to another process.

    Args:
        model: path of a saved classifier.
        settings: `ExplainSettings`.
    """

    computes = True  # maps are new, and are stored

    def __init__(self, model: Path | str, settings: ExplainSettings):
        self.model, self.settings = Path(model), settings
        self.explainer: Explainer | None = None

    def load(self) -> None:
        """Loads the model.

        Raises:
            InputError: as `Explainer.load`.
        """
        with silence_libraries():  # TensorFlow prints messages when it is imported, which is only here
            from kmm.explain.explainer import Explainer
        self.explainer = Explainer.load(self.model, self.settings)

    def explain_studies(
        self, studies: Iterable[Study], set_aside: Callable[[Problem], None]
    ) -> Iterator[tuple[str, list[Explanation]]]:
        """Explains studies as `kmm.explain.explainer.Explainer.explain_studies` does; `load` must be called before."""
        assert self.explainer is not None
        return self.explainer.explain_studies(studies, set_aside)


class MapSource:
    """Draws explanations from stored maps, without a model.

    Args:
        out: Path of the folder.
        settings: `ExplainSettings`; its `regions` determine the circles.
        names: dict of study id to the name of its files, without suffixes.
    """

    computes = False

    def __init__(self, out: Path, settings: ExplainSettings, names: Mapping[str, str]):
        self.out, self.settings, self.names = out, settings, names

    def load(self) -> None:
        """Does nothing: maps are read study by study."""

    def explain_studies(
        self, studies: Iterable[Study], set_aside: Callable[[Problem], None]
    ) -> Iterator[tuple[str, list[Explanation]]]:
        """Yields the id of each study and its explanations; calls `set_aside` for a map that cannot be drawn."""
        for study in studies:
            try:
                image = str(study.frontal.path) if study.frontal else None
                yield study.id, read_map(place_of(self.out, self.names[study.id]), self.settings.regions, image)
            except (ImageError, InputError) as error:
                set_aside(Problem(f"study {study.id}", str(error)))
