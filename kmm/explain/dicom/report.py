"""The wording of DICOM objects, and the content of the structured report.

A circle shows attribution, not a finding, and its name says so. A label below its threshold is always marked as such.
"""

import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
from pydicom.sr.codedict import codes

from kmm import __version__
from kmm.explain.decision import DISCLAIMER, state_decision
from kmm.explain.explained_study import ExplainedStudy

SCHEME = "99KMM"  # coding scheme for what no public scheme has: the labels of the classifier, and the two codes below
THRESHOLD, DECISION = ("threshold", "Decision threshold"), ("decision", "Probability at or above threshold")
PROBABILITY, SALIENCY = codes.DCM.Probability, codes.DCM.Saliency
LIMIT = 64  # characters of a code and of a description


def shorten(text: str, limit: int = LIMIT) -> str:
    r"""Shortens text to a valid code or description: one line of at most `limit` characters, without backslashes.

    Example:
        >>> shorten("Opacity\\lung\n base", 12)
        'Opacity/lung'
    """
    return " ".join(text.replace("\\", "/").split())[:limit].strip()


def name_label(explanation: ExplainedStudy, before: str = "") -> str:
    """Names the label, marked if it is below its threshold: one line of at most 64 characters.

    Args:
        explanation: `Explanation`.
        before: str. Text before the label.

    Returns:
        str. If it is too long, only the label itself is shortened.
    """
    after = {True: "", False: " (below threshold)", None: " (no threshold)"}[explanation.decision]
    return f"{before}{shorten(explanation.target, LIMIT - len(before) - len(after))}{after}"


def name_circle(explanation: ExplainedStudy) -> str:
    """Names what a circle shows; see `name_label`."""
    return name_label(explanation, "Attribution for ")


def say_decision(explanation: ExplainedStudy) -> str:
    """Returns the disclaimer, the label's probability, its threshold and the decision as one line."""
    target = explanation.target
    line = state_decision(shorten(target), explanation.probabilities[target], explanation.thresholds.get(target))
    return f"{DISCLAIMER} {line}."


def build_report(
    sr: ModuleType,
    film: pydicom.Dataset,
    explanation: ExplainedStudy,
    *,
    device_uid: str,
    label_uid: str,
    outlines: Sequence[tuple[str, str, str, np.ndarray]],
) -> Any:
    """Builds the content of the structured report.

    Args:
        sr: the module `highdicom.sr`.
        film: dataset of the film, from `kmm.explain.dicom.header.read_reference`.
        explanation: `Explanation`.
        device_uid, label_uid: str. UIDs of the classifier, and of the film's measurement group.
        outlines: list of `(UID, name, graphic type, points)`, one per region.

    Returns:
        `highdicom.sr.MeasurementReport`: a group for the film with probability, threshold and decision, and one for
        each outline with its weight. Each has the disclaimer and the decision as a comment.
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
