"""References of a comparison: kmm, the paper, and the methods whose results it shows, as BibTeX and in words."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import kmm
from kmm.experiments.schema import Summary, choose_shares

CITED = re.compile(r"\{cite:([a-z0-9,]+)\}")


@dataclass(frozen=True)
class Reference:
    """One work.

    Attributes:
        kind: str. Type of the BibTeX entry.
        short: str. Authors and year, as in a text.
        title: str.
        link: str. Address; empty if there is none.
        fields: dict of further BibTeX fields.
    """

    kind: str
    short: str
    title: str
    link: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


def _cite(kind, short, title, link, authors, year, **fields):
    return Reference(kind, short, title, link, {"author": authors, "year": year, **fields})


REFERENCES = {
    "kmm": Reference(
        "software",
        "kmm",
        "kmm: classifiers of chest films and their reports, with the regions and words behind each decision",
        fields={"author": "{The kmm developers}", "version": kmm.__version__, "license": "Apache-2.0"},
    ),
    "aydin2019": _cite(
        *("misc", "Aydin et al., 2019", "Medical Multimodal Classifiers Under Scarce Data Condition"),
        "https://arxiv.org/abs/1902.08888",
        "Aydin, Faik and Zhang, Maggie and Ananda-Rajah, Michelle and Haffari, Gholamreza",
        "2019",
        **{"eprint": "1902.08888", "archiveprefix": "arXiv"},
    ),
    "nadeau2003": _cite(
        *("article", "Nadeau and Bengio, 2003", "Inference for the Generalization Error"),
        "https://doi.org/10.1023/A:1024068626366",
        "Nadeau, Claude and Bengio, Yoshua",
        "2003",
        **{"journal": "Machine Learning", "volume": "52", "number": "3", "pages": "239--281"},
    ),
    "bouckaert2004": _cite(
        *("inproceedings", "Bouckaert and Frank, 2004"),
        "Evaluating the Replicability of Significance Tests for Comparing Learning Algorithms",
        "https://doi.org/10.1007/978-3-540-24775-3_3",
        "Bouckaert, Remco R. and Frank, Eibe",
        "2004",
        **{"booktitle": "Advances in Knowledge Discovery and Data Mining", "pages": "3--12"},
    ),
    "holm1979": _cite(
        *("article", "Holm, 1979", "A Simple Sequentially Rejective Multiple Test Procedure"),
        "https://www.jstor.org/stable/4615733",
        "Holm, Sture",
        "1979",
        **{"journal": "Scandinavian Journal of Statistics", "volume": "6", "number": "2", "pages": "65--70"},
    ),
    "delong1988": _cite(
        *("article", "DeLong et al., 1988"),
        "Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves: "
        "A Nonparametric Approach",
        "https://doi.org/10.2307/2531595",
        "DeLong, Elizabeth R. and DeLong, David M. and Clarke-Pearson, Daniel L.",
        "1988",
        **{"journal": "Biometrics", "volume": "44", "number": "3", "pages": "837--845"},
    ),
    "obuchowski1997": _cite(
        *("article", "Obuchowski, 1997", "Nonparametric Analysis of Clustered ROC Curve Data"),
        "https://doi.org/10.2307/2533958",
        "Obuchowski, Nancy A.",
        "1997",
        **{"journal": "Biometrics", "volume": "53", "number": "2", "pages": "567--578"},
    ),
    "mcnemar1947": _cite(
        *("article", "McNemar, 1947"),
        "Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages",
        "https://doi.org/10.1007/BF02295996",
        "McNemar, Quinn",
        "1947",
        **{"journal": "Psychometrika", "volume": "12", "number": "2", "pages": "153--157"},
    ),
    "shapley1953": _cite(
        *("incollection", "Shapley, 1953", "A Value for n-Person Games"),
        "https://doi.org/10.1515/9781400881970-018",
        "Shapley, Lloyd S.",
        "1953",
        **{"booktitle": "Contributions to the Theory of Games II", "publisher": "Princeton University Press"},
    ),
    "geifman2017": _cite(
        *("misc", "Geifman and El-Yaniv, 2017", "Selective Classification for Deep Neural Networks"),
        "https://arxiv.org/abs/1705.08500",
        "Geifman, Yonatan and El-Yaniv, Ran",
        "2017",
        **{"eprint": "1705.08500", "archiveprefix": "arXiv"},
    ),
    "figueroa2012": _cite(
        *("article", "Figueroa et al., 2012", "Predicting Sample Size Required for Classification Performance"),
        "https://doi.org/10.1186/1472-6947-12-8",
        "Figueroa, Rosa L. and Zeng-Treitler, Qing and Kandula, Sasikiran and Ngo, Long H.",
        "2012",
        **{"journal": "BMC Medical Informatics and Decision Making", "volume": "12", "pages": "8"},
    ),
    "vickers2006": _cite(
        *("article", "Vickers and Elkin, 2006"),
        "Decision Curve Analysis: A Novel Method for Evaluating Prediction Models",
        "https://doi.org/10.1177/0272989X06295361",
        "Vickers, Andrew J. and Elkin, Elena B.",
        "2006",
        **{"journal": "Medical Decision Making", "volume": "26", "number": "6", "pages": "565--574"},
    ),
}


def list_references(summary: Summary) -> list[str]:
    """Lists the references of what a summary holds, in the order of `REFERENCES`.

    Args:
        summary: `Summary`.

    Returns:
        list of keys of `REFERENCES`: kmm and the paper, and each method whose results are there.

    Example:
        >>> list_references({"models": {"": {}}})
        ['kmm', 'aydin2019', 'vickers2006']
    """
    within = any(found.get("within") for found in summary.get("within") or ())
    folds = (summary.get("resampling") or {}).get("folds") and summary.get("differences")
    used = {
        "kmm": True,
        "aydin2019": True,
        "nadeau2003": summary.get("differences"),
        "bouckaert2004": folds,
        "holm1979": any(found.get("p_holm") is not None for found in summary.get("differences") or ()),
        "delong1988": within,
        "obuchowski1997": within,
        "mcnemar1947": within,
        "shapley1953": choose_shares(summary),
        "geifman2017": summary.get("selective"),
        "figueroa2012": summary.get("sizes"),
        "vickers2006": summary.get("models"),
    }
    return [key for key in REFERENCES if used[key]]


def write_bibtex(keys: Iterable[str]) -> str:
    """Writes references as BibTeX.

    Args:
        keys: keys of `REFERENCES`.

    Returns:
        str, one entry after the other, with a newline at the end.

    Example:
        >>> print(write_bibtex(["holm1979"]).splitlines()[0])
        @article{holm1979,
    """
    entries = []
    for key in keys:
        found = REFERENCES[key]
        fields = {"title": f"{{{found.title}}}", **found.fields, **({"url": found.link} if found.link else {})}
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
        entries.append("\n".join([f"@{found.kind}{{{key},", *lines, "}"]) + "\n")
    return "\n".join(entries)


def cite_in_words(text: str) -> str:
    """Replaces each `{cite:KEY}` of a text by authors and year in brackets.

    Example:
        >>> cite_in_words("adjusted by Holm's method {cite:holm1979}.")
        "adjusted by Holm's method (Holm, 1979)."
    """
    return _replace(text, lambda keys: f"({'; '.join(REFERENCES[key].short for key in keys)})")


def cite_in_markdown(text: str) -> str:
    """Replaces each `{cite:KEY}` of a text by a citation as Pandoc reads it.

    Example:
        >>> cite_in_markdown("adjusted by Holm's method {cite:holm1979}.")
        "adjusted by Holm's method [@holm1979]."
    """
    return _replace(text, lambda keys: f"[{'; '.join(f'@{key}' for key in keys)}]")


def _replace(text, write):
    """Replaces citations of known keys; a name that only looks like a citation stays as it is."""

    def replace(found):
        keys = found[1].split(",")
        return write(keys) if set(keys) <= set(REFERENCES) else found[0]

    return CITED.sub(replace, text)
