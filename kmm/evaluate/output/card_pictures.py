"""The pictures that a model card shows, from the folder beside it."""

from collections.abc import Collection

PICTURE_FOLDER = "pictures"  # beside the card
PICTURES = {
    "roc.png": "ROC curves on test studies",
    "confusion.png": "Confusion matrices on test studies, at the stored thresholds",
    "precision_recall.png": "Precision and recall on test studies",
    "calibration.png": "Calibration on test studies",
    "decision_curve.png": "Decision curves on test studies",
    "learning_curves.png": "Learning curves",
}
TITLE = "## Pictures"


def show_pictures(names: Collection[str]) -> list[str]:
    """Writes the section of pictures of a card.

    Args:
        names: names of files in `PICTURES`, of those that exist.

    Returns:
        list of str, paragraphs of Markdown; empty without pictures.

    Example:
        >>> show_pictures(["roc.png"])
        ['## Pictures', '![ROC curves on test studies](pictures/roc.png)']
    """
    shown = [f"![{title}]({PICTURE_FOLDER}/{name})" for name, title in PICTURES.items() if name in names]
    return [TITLE, *shown] if shown else []


def drop_pictures(card: str) -> str:
    r"""Removes the section of pictures from a card that goes where the pictures do not.

    Example:
        >>> drop_pictures("# demo\n\n## Pictures\n\n![ROC](pictures/roc.png)\n\n## Limits\n")
        '# demo\n\n## Limits\n'
    """
    before, title, rest = card.partition(f"\n{TITLE}\n")
    return before + "".join(rest.partition("\n## ")[1:]) if title else card
