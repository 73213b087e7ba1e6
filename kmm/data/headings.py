"""MeSH headings of reports: which of them mean a normal film, and which name no finding of a patient.

Open-i's heads are headings of MeSH and of RadLex. Besides diseases and signs they name organs, with the finding in the
qualifier only (`Aorta/tortuous`, `Lung/hypoinflation`), and remarks on the exposure. A label "Aorta" would be no
finding, so the label scheme `findings` leaves such heads out. The setting `not_findings` holds the rules: names of
groups below, or single headings, as in `--set "not_findings=technical quality;bare organs;Catheters, Indwelling"`.
A semicolon separates, since headings hold commas. `--set not_findings=none` makes every head a candidate.
"""

NORMAL, NOT_INDEXED = "normal", "No Indexing"
POOR_QUALITY = "Technical Quality of Image Unsatisfactory"

# Name of a rule -> the headings that it leaves out, compared without regard to case and spacing.
NOT_FINDINGS = {
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


def level_heading(text):
    """Returns the form of a term or heading in which two spellings of it are equal: case and spacing do not count.

    Example:
        >>> level_heading("Subcutaneous  Emphysema") == level_heading("subcutaneous emphysema ")
        True
    """
    return " ".join(text.split()).casefold()


def expand_rules(rules):
    """Finds which rule leaves out which heading.

    Args:
        rules: sequence of str: names of groups in `NOT_FINDINGS`, or headings.

    Returns:
        dict of heading, as `level_heading` has it, to the rule that leaves it out; the first rule counts.

    Example:
        >>> rules = expand_rules(["technical quality", "Cysts"])
        >>> rules["cysts"], rules["technical quality of image unsatisfactory"], len(rules)
        ('Cysts', 'technical quality', 2)
    """
    found = {}
    for rule in rules:
        for heading in NOT_FINDINGS.get(level_heading(rule), (rule,)):
            found.setdefault(level_heading(heading), rule)
    return found
