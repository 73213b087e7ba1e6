"""Where the explanations of a folder come from: the model, or the maps that an earlier run kept."""

from pathlib import Path

from kmm.data.study import Problem
from kmm.errors import ImageError, InputError
from kmm.explain.folder.maps import place_of, read_map
from kmm.explain.folder.processes import silence_libraries


class ModelSource:
    """Explains studies with a saved classifier. Until `load` is called it is a description that can be sent elsewhere.

    Args:
        model: path of a saved classifier.
        settings: `ExplainSettings`.
    """

    computes = True  # maps are new, and are kept

    def __init__(self, model, settings):
        self.model, self.settings = Path(model), settings
        self.explainer = None

    def load(self):
        """Loads the model.

        Raises:
            InputError: as `Explainer.load`.
        """
        with silence_libraries():  # TensorFlow speaks while it is imported; only those who explain need it
            from kmm.explain.explainer import Explainer
        self.explainer = Explainer.load(self.model, self.settings)

    def explain_studies(self, studies, set_aside):
        """As `kmm.explain.explainer.Explainer.explain_studies`."""
        return self.explainer.explain_studies(studies, set_aside)


class MapSource:
    """Draws what was computed before: no model is loaded, nothing is differentiated.

    Args:
        out: Path of the folder.
        settings: `ExplainSettings`, of which the circles follow.
        names: dict of study id to what its files are called.
    """

    computes = False

    def __init__(self, out, settings, names):
        self.out, self.settings, self.names = out, settings, names

    def load(self):
        """Nothing is loaded."""

    def explain_studies(self, studies, set_aside):
        """Yields the id of each study and its explanations; tells `set_aside` why a map cannot be drawn."""
        for study in studies:
            try:
                image = study.frontal and str(study.frontal.path)
                yield study.id, read_map(place_of(self.out, self.names[study.id]), self.settings.regions, image)
            except (ImageError, InputError) as error:
                set_aside(Problem(f"study {study.id}", str(error)))
