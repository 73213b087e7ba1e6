"""What objects of DICOM say of an explanation in words, and the content of its structured report.

A circle shows attribution, not a finding: it is named so, and a label whose probability is below its threshold is never
named without saying so.
"""

import json

from pydicom.sr.codedict import codes

from kmm import __version__
from kmm.explain.decision import DISCLAIMER, state_decision

SCHEME = "99KMM"  # coding scheme of what no public scheme has: the labels of the classifier, and the two below
THRESHOLD, DECISION = ("threshold", "Decision threshold"), ("decision", "Probability at or above threshold")
PROBABILITY, SALIENCY = codes.DCM.Probability, codes.DCM.Saliency
LIMIT = 64  # characters of a code and of a description


def shorten(text, limit=LIMIT):
    r"""Text as a code or a description may be: one line of so many characters, without backslashes.

    Example:
        >>> shorten("Opacity\\lung\n base", 12)
        'Opacity/lung'
    """
    return " ".join(text.replace("\\", "/").split())[:limit].strip()


def name_label(explanation, before=""):
    """The label with what its decision lets it be called: one line of 64 characters at most.

    Args:
        explanation: `Explanation`.
        before: str. What stands before the label.

    Returns:
        str. Only the label itself is ever cut.
    """
    after = {True: "", False: " (below threshold)", None: " (no threshold)"}[explanation.decision]
    return f"{before}{shorten(explanation.target, LIMIT - len(before) - len(after))}{after}"


def name_circle(explanation):
    """What a circle shows, as `name_label`."""
    return name_label(explanation, "Attribution for ")


def say_decision(explanation):
    """The disclaimer, the label's probability, its threshold and the decision: one line."""
    target = explanation.target
    said = state_decision(shorten(target), explanation.probabilities[target], explanation.thresholds.get(target))
    return f"{DISCLAIMER} {said}."


def build_report(sr, film, explanation, *, device_uid, label_uid, outlines):
    """The content of the structured report.

    Args:
        sr: the module `highdicom.sr`.
        film: dataset of the film, as `kmm.explain.dicom.header.read_reference` gives it.
        explanation: `Explanation`.
        device_uid, label_uid: str. UIDs of the classifier, and of the group of the film.
        outlines: list of `(UID, name, graphic type, points)`, one for each region.

    Returns:
        `highdicom.sr.MeasurementReport`: a group of the film with probability, threshold and decision, and one of each
        outline with its weight. Each holds the disclaimer and the decision as a comment.
    """
    settings = json.dumps(explanation.settings.as_dict())
    algorithm = sr.AlgorithmIdentification("kmm", __version__, [f"model {explanation.model}", f"settings {settings}"])
    reference = (film.SOPClassUID, film.SOPInstanceUID)

    def describe(uid, name, finding, numbers):
        return {
            "tracking_identifier": sr.TrackingIdentifier(uid, name),
            "finding_type": sr.CodedConcept(finding, SCHEME, finding),
            "measurements": [
                sr.Measurement(concept, float(value), codes.UCUM.NoUnits, algorithm_id=algorithm)
                for concept, value in numbers
            ],
        }

    numbers, evaluations = [(PROBABILITY, explanation.probabilities[explanation.target])], None
    if explanation.decision is not None:
        numbers.append((_code(sr, THRESHOLD), explanation.thresholds[explanation.target]))
        answer = codes.SCT.Yes if explanation.decision else codes.SCT.No
        evaluations = [sr.QualitativeEvaluation(_code(sr, DECISION), answer)]
    groups = [
        sr.MeasurementsAndQualitativeEvaluations(
            source_images=[sr.SourceImageForMeasurementGroup(*reference)],
            qualitative_evaluations=evaluations,
            **describe(label_uid, "kmm label", name_label(explanation), numbers),
        )
    ]
    for (uid, name, kind, points), region in zip(outlines, explanation.regions, strict=True):
        outline = sr.ImageRegion(kind, points, sr.SourceImageForRegion(*reference))
        groups.append(
            sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                referenced_region=outline,
                **describe(uid, name, name_circle(explanation), [(SALIENCY, region.weight)]),
            )
        )
    for group in groups:
        comment = sr.TextContentItem(codes.DCM.Comment, say_decision(explanation), sr.RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(comment)
    device = sr.DeviceObserverIdentifyingAttributes(device_uid, name="kmm")
    context = sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))
    return sr.MeasurementReport(context, codes.LN.XRUnspecifiedBodyRegion, groups)


def _code(sr, pair):
    return sr.CodedConcept(pair[0], SCHEME, pair[1])
