"""A result in words, the same in every report: what was found, on what evidence, by what."""

from bonetumor.service.ports import Notice, Result

BANNER = "PRELIMINARY AI OUTPUT, not for primary diagnosis."


def not_performed(notice: Notice) -> list[str]:
    """That there is no result, and why: the banner first."""
    return [
        "AI NOT PERFORMED",
        "The bone tumour AI has not assessed this study. This is not a negative result.",
        f"Reason: {notice.reason}",
        f"{len(notice.study.instances)} objects received; {notice.study.completeness}."
        if notice.study.completeness
        else f"{len(notice.study.instances)} objects received.",
        f"Since {notice.at:%Y-%m-%d %H:%M} UTC. A result follows if the cause is mended.",
    ]


def conclusion(result: Result) -> str:
    """The conclusion: what it is, what was found, what was used, what was missing."""
    amended = ["It replaces an earlier output."] if result.predecessor else []
    return " ".join([BANNER, *amended, found(result), *notes(result)])


def found(result: Result) -> str:
    """What the model says of the study."""
    lesions, diagnosis = result.assessment.lesions, result.assessment.diagnosis
    count = len({lesion.tracking_uid for lesion in lesions})
    seen = f"{count} suspected tumour(s) marked." if lesions else "No tumour localised."
    if diagnosis.probabilities is None:
        return f"{seen} Not classified: {diagnosis.reason}."
    said = ", ".join(f"P({c}) {p:.0%}" for c, p in diagnosis.probabilities.items())
    if diagnosis.abstained:
        return f"{seen} The model abstains: {diagnosis.reason} ({said})."
    return f"{seen} {said}."


def notes(result: Result) -> list[str]:
    """Evidence, completeness, model, and whatever else a reader must know: one sentence each."""
    assessment, algorithm = result.assessment, result.assessment.algorithm
    used = ", ".join(assessment.diagnosis.used) or "none"
    missing = ", ".join(assessment.missing) or "none"
    said = [
        f"Evidence used: {used}; missing: {missing}.",
        *_blood(result),
        f"Study: {assessment.completeness}.",
        f"Model {algorithm.bundle_version}, trained on {algorithm.training_data}.",
    ]
    if assessment.diagnosis.out_of_distribution:
        said.append("The images are unlike those the model was trained on.")
    return [*said, *(f"{note[:1].upper()}{note[1:]}." for note in assessment.notes)]


def _blood(result: Result) -> list[str]:
    """The blood markers as the networks read them, and who worded them."""
    text = result.assessment.diagnosis.blood_text
    if text is None:
        return []
    return [f"Blood as worded by {text.writer}: {text.text.rstrip('.')}."]
