"""Files of a similarity: its numbers as JSON, and its page."""

from collections.abc import Sequence
from pathlib import Path

from kmm.data.names import choose_file_names
from kmm.explain.output.case_page import NOBODY, SimilarCase, render_cases
from kmm.explain.output.files import RESERVED
from kmm.explain.output.findings import Findings
from kmm.explain.output.table import drop_unknown, make_writable
from kmm.explain.similarity.pair import Similarity
from kmm.storage.files import replace_file, write_json
from kmm.storage.output_mark import marking_output, refuse_foreign

NO_FINDINGS = (NOBODY, NOBODY)


def render_similarity(similarity: Similarity, findings: Sequence[Findings] = NO_FINDINGS) -> str:
    """Renders two studies and why they are alike as one page: see `kmm.explain.output.case_page.render_cases`.

    Args:
        similarity: `Similarity`.
        findings: the `Findings` of both studies.
    """
    one, other = similarity.studies
    case = SimilarCase(other.study, similarity.cosine, similarity, findings=findings[1])
    return render_cases(one.study, [case], findings=findings[0])


def write_similarity(
    similarity: Similarity, folder: Path | str, findings: Sequence[Findings] = NO_FINDINGS
) -> list[Path]:
    """Writes `<one>-<other>.json` and `<one>-<other>.html` into a folder, which is created if missing and marked, so
    that no command reads the files as studies.

    Args:
        similarity: `Similarity`.
        folder: path.
        findings: the `Findings` of both studies.

    Returns:
        list of Path: the files, which contain films and reports.

    Raises:
        InputError: if the folder already has a file of one of these names that kmm did not write.
    """
    folder = Path(folder)
    both = "-".join(side.study for side in similarity.studies)
    name = choose_file_names([both], RESERVED)[both]
    names = [f"{name}.json", f"{name}.html"]
    with marking_output(folder) as mark:
        refuse_foreign(folder, mark, names)
        values = similarity.as_dict()
        for side in ("one", "other"):
            values[side] = {**values[side], "image": values[side]["image"] and make_writable(values[side]["image"])}
        write_json(folder / names[0], drop_unknown(values))
        with replace_file(folder / names[1]) as place:
            place.write_text(render_similarity(similarity, findings), encoding="utf-8")
    return [folder / one for one in names]
