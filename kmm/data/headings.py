"""MeSH headings of reports: headings that mean a normal film, and headings that are not findings.

A head is the part of a MeSH term before its qualifiers. Open-i's heads are headings of MeSH and of RadLex. Besides
diseases and signs, some name organs, with the finding in the qualifier only (`Aorta/tortuous`, `Lung/hypoinflation`),
and some are remarks on the exposure. A label "Aorta" would not be a finding, so the label scheme `findings` leaves such
heads out. The setting `not_findings` holds the rules: names of groups below, or single headings, as in
`--set "not_findings=technical quality;bare organs;Catheters, Indwelling"`. Rules are separated by semicolons, because
headings contain commas. `--set not_findings=none` makes every head a candidate.
"""

from collections.abc import Sequence

NORMAL, NOT_INDEXED = "normal", "No Indexing"
POOR_QUALITY = "Technical Quality of Image Unsatisfactory"

# Name of a rule -> the headings that it leaves out. Case and spacing do not matter.
NOT_FINDINGS: dict[str, tuple[str, ...]] = {
    "technical quality": (POOR_QUALITY,),
    "bare organs": (
        *("Abdomen", "Adipose Tissue", "Aorta", "Aorta, Thoracic", "Arteries", "Axilla", "Blood Vessels"),
        *("Bone and Bones", "Breast", "Bronchi", "Cardiac Shadow", "Cervical Vertebrae", "Clavicle", "Colon"),
        *("Coronary Vessels", "Costophrenic Angle", "Diaphragm", "Epicardial Fat", "Esophagus", "Gallbladder"),
        *("Heart", "Heart Atria", "Heart Ventricles", "Hilum", "Humerus", "Kidney", "Liver", "Lumbar Vertebrae"),
        *("Lung", "Lymph Nodes", "Mediastinum", "Neck", "Nipple Shadow", "Pericardium", "Pleura", "Pulmonary Artery"),
        *("Pulmonary Veins", "Ribs", "Scapula", "Shoulder", "Spine", "Spleen", "Sternum", "Stomach", "Sulcus"),
        *("Thoracic Vertebrae", "Thorax", "Trachea", "Trachea, Carina", "Vertebrae"),
    ),
}


def level_heading(text: str) -> str:
    """Normalizes the case and spacing of a term or heading, so that all spellings of it are equal.

    Example:
        >>> level_heading("Subcutaneous  Emphysema") == level_heading("subcutaneous emphysema ")
        True
    """
    return " ".join(text.split()).casefold()


def expand_rules(rules: Sequence[str]) -> dict[str, str]:
    """Expands rules into the headings that they leave out.

    Args:
        rules: sequence of str: names of groups in `NOT_FINDINGS`, or headings.

    Returns:
        dict of heading, normalized by `level_heading`, to the first rule that leaves it out.

    Example:
        >>> rules = expand_rules(["technical quality", "Cysts"])
        >>> rules["cysts"], rules["technical quality of image unsatisfactory"], len(rules)
        ('Cysts', 'technical quality', 2)
    """
    found: dict[str, str] = {}
    for rule in rules:
        for heading in NOT_FINDINGS.get(level_heading(rule), (rule,)):
            found.setdefault(level_heading(heading), rule)
    return found
