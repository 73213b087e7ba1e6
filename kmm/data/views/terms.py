"""Terms and codes for the view of a film: frontal, lateral or neither.

Sources: the terms of View Position, https://dicom.innolitics.com/ciods/cr-image/cr-series/00185101, and of MIMIC-CXR,
https://physionet.org/content/mimic-cxr/; the codes of View Code Sequence,
https://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_4010.html, with the SNOMED RT codes that
older devices write. R-10214 (postero-anterior) and R-10222 (sagittal) are from earlier editions.
"""

import functools
import re

from kmm.data.study import FRONTAL, LATERAL, OTHER

# Terms that error messages suggest for a column of views.
VIEW_NAMES = ("frontal", "PA", "AP", "lateral", "LL", "RL", "oblique", "other")

_FRONTAL = {"PA", "AP", "FRONTAL"}
_LATERAL = {"LATERAL", "LAT", "LL", "RL", "LLAT", "RLAT", "SAGITTAL"}
# These make a view neither frontal nor lateral, also with other words: "PA OBLIQUE", "SWIMMERS LATERAL".
_NEITHER = {
    *("OBLIQUE", "OBL", "LAO", "RAO", "LPO", "RPO", "LLO", "RLO", "SWIMMERS", "SWIMMER", "OTHER"),
    *("MEDIO", "MEDIAL", "LATERO", "MLO"),
}
# The patient's position: alone it is neither view, and "lateral" then means the side: "LEFT LATERAL DECUBITUS".
_DECUBITUS = {"LLD", "RLD", "DECUBITUS", "DECUB", "DECUBITIS"}
# Known views that are neither frontal nor lateral, named without any of the words above.
_PROJECTIONS = {
    *("AXIAL", "LORDOTIC", "APICAL", "TANGENTIAL", "CRANIOCAUDAL", "CAUDOCRANIAL", "OCCLUSAL", "SUBMENTOVERTICAL"),
    "VERTICOSUBMENTAL",
}
# Words that do not state a view.
_SILENT = {
    *("VIEW", "VIEWS", "PROJECTION", "POSITION", "CHEST", "THORAX", "FILM", "XRAY", "RADIOGRAPH"),
    *("LEFT", "RIGHT", "LT", "RT", "ERECT", "UPRIGHT", "STANDING", "SITTING", "SEATED", "SEMI", "SEMIERECT", "SUPINE"),
    *("RECUMBENT", "PRONE", "PORTABLE", "MOBILE", "BEDSIDE", "INSPIRATION", "EXPIRATION", "GRID"),
    *("UNKNOWN", "UNK", "UNSPECIFIED", "NONE", "NULL", "NAN", "NA", "NOT", "STATED", "APPLICABLE", "AVAILABLE"),
}
_WHOLE_WORDS = (
    (r"X[ -]?RAY", "XRAY"),
    (r"\bN/A\b", "NA"),
    (r"\bPOSTERO?(IOR)?[ -]*(TO[ -]*)?ANTERIOR\b", "PA"),
    (r"\bANTERO?(IOR)?[ -]*(TO[ -]*)?POSTERIOR\b", "AP"),
    (r"\bP[-./ ]A\b", "PA"),
    (r"\bA[-./ ]P\b", "AP"),
)
_CODES = {
    FRONTAL: (
        *("399348003", "R-10206"),  # antero-posterior
        *("272479007", "R-40888", "R-10214"),  # postero-anterior
        *("399033003", "R-10202"),  # frontal
    ),
    LATERAL: (
        *("399067008", "R-102CD"),  # lateral
        *("399173006", "R-10236"),  # left lateral
        *("399198007", "R-10232"),  # right lateral
        *("30730003", "G-A145", "R-10222"),  # sagittal
    ),
    OTHER: (
        *("399312000", "R-10208"),  # antero-posterior oblique
        *("399059000", "R-10216"),  # postero-anterior oblique
        *("399160007", "R-10204"),  # frontal oblique
        *("399132005", "R-10252"),  # frontal-oblique axial
        *("399135007", "R-10220"),  # left anterior oblique
        *("399006002", "R-10212"),  # left posterior oblique
        *("399356000", "R-40985", "R-10218"),  # right anterior oblique
        *("399038007", "R-10210"),  # right posterior oblique
        *("399184004", "R-10238"),  # left oblique
        *("399236003", "R-10234"),  # right oblique
        *("260427002", "R-40783"),  # lateral oblique
        *("399182000", "R-102C1"),  # oblique
        *("399061009", "R-10241"),  # axial
        *("399110001", "R-102C2"),  # tangential
    ),
}
VIEW_CODES = {code: view for view, codes in _CODES.items() for code in codes}


def name_view(text: str) -> str | None:
    """Returns the view that a term of a table names, read word by word.

    Args:
        text: str, for example `"AP AXIAL"`; case does not matter.

    Returns:
        `"frontal"`, `"lateral"`, `"other"` for a known term that is neither, or None for a text that is empty, unknown
        or states no view.

    Example:
        >>> [name_view(text) for text in ("PA", "XTABLE LATERAL", "AP LLD", "LLD", "LAO", "upside down", "erect")]
        ['frontal', 'lateral', 'frontal', 'other', 'other', None, None]
    """
    words = _split_words(text)
    if words & _NEITHER:
        return OTHER
    frontal, decubitus = bool(words & _FRONTAL), bool(words & _DECUBITUS)
    lateral = (bool(words & _LATERAL) or words == {"L"}) and not decubitus  # with other words, L is a side or a bone
    if frontal and lateral:
        return OTHER  # "PA AND LATERAL" describes the study, not this film
    if frontal or lateral:
        return FRONTAL if frontal else LATERAL
    return OTHER if decubitus or words & _PROJECTIONS else None


def name_direction(text: str) -> str | None:
    """Returns the direction of the beam that a term of a frontal film names.

    Args:
        text: str, as for `name_view`; several terms are separated by `;` or a backslash.

    Returns:
        `"PA"`, `"AP"`, or None if the term names neither or both, or the view is not frontal.

    Example:
        >>> [name_direction(text) for text in ("pa", "AP erect", "Postero-anterior", "Frontal", "PA;AP", "AP oblique")]
        ['PA', 'AP', 'PA', None, None, None]
    """
    named = _split_words(text) & {"PA", "AP"}
    return next(iter(named)) if len(named) == 1 and name_view(text) == FRONTAL else None


def judge_term(text: str) -> str | None:
    """Returns the view that a header states, as `name_view` does, except that an unknown term is `"other"`.

    Args:
        text: str, the value of View Position or the meaning of a view code.

    Returns:
        `"frontal"`, `"lateral"`, `"other"`, or None if no view is stated.

    Example:
        >>> [judge_term(text) for text in ("PA", "FLYING", "", "CHEST ERECT", "UNKNOWN")]
        ['frontal', 'other', None, None, None]
    """
    return name_view(text) or (OTHER if _split_words(text) - _SILENT else None)


def judge_code(value: str, meaning: str = "") -> str | None:
    """Returns the view that an item of View Code Sequence states.

    A known code decides first, then the code meaning, then a code that is itself a term, such as `PA` in a vendor's
    private scheme.

    Args:
        value: str. Code Value of any scheme; codes of SNOMED CT and SNOMED RT are known.
        meaning: str. Code Meaning.

    Returns:
        `"frontal"`, `"lateral"`, `"other"`, or None if no view is stated.

    Example:
        >>> judge_code("399348003"), judge_code("R-10236", "left lateral"), judge_code("V7", "Postero-anterior")
        ('frontal', 'lateral', 'frontal')
        >>> judge_code("V8"), judge_code("", "")
        ('other', None)
    """
    value = value.strip()
    known = VIEW_CODES.get(value.upper()) or judge_term(meaning) or (name_view(value) if value.isalpha() else None)
    return known or (OTHER if value else None)


def judge_orientation(text: str) -> str | None:
    r"""Returns the view that Patient Orientation implies, from the plane of the film.

    Args:
        text: str, the directions of rows and columns, for example `"L\\F"`: left, right, anterior, posterior, head,
            foot.

    Returns:
        `"lateral"` for a sagittal plane, `"other"` for a transverse plane, None otherwise, because lateral films carry
        `L\F` too.

    Example:
        >>> judge_orientation("A\\F"), judge_orientation("L\\F"), judge_orientation("L\\P"), judge_orientation("")
        ('lateral', None, 'other', None)
    """
    axes = {part.strip()[:1] for part in text.upper().split("\\")}
    if not axes & {"A", "P"}:
        return None
    return OTHER if axes & {"L", "R"} else LATERAL


@functools.lru_cache(maxsize=4096)
def _split_words(text: str) -> frozenset[str]:
    text = re.sub("['\N{RIGHT SINGLE QUOTATION MARK}]", "", text.upper()).replace("_", " ")
    for pattern, word in _WHOLE_WORDS:
        text = re.sub(pattern, word, text)
    words = re.findall(r"[^\W_]+", text)
    return frozenset(re.sub(r"(?<=[^\W\d]{2})\d+$", "", word) for word in words if not word.isdecimal())  # "PA1" is PA
