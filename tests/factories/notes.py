"""Notes of a run, as its user reads them."""

from kmm.progress import Progress


class Notes(Progress):
    """Keeps the notes of a run."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)
