"""Sentences of movie reviews, positive or negative: the pool that SST is made of."""

from __future__ import annotations

import math

import numpy as np

from twophase.link.errors import ArtifactError
from twophase.training.data import Texts, TextTask
from twophase.training.tasks.partition import stratified
from twophase.training.tasks.sdist import SdistFile, fetch

__all__ = ["CITATION", "SOURCE", "reviews"]

SOURCE = SdistFile(
    requirement="vaderSentiment==3.3.2",
    sdist_sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    archive="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
    member="hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    member_sha256="c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
    folder="reviews",
)

CITATION = (
    "Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis of "
    "Social Media Text. ICWSM-14. The sentences are of reviews on rottentomatoes.com that Pang, B. & Lee, L. "
    "(ACL 2004, 2005) collected and of which Socher, R. et al. (EMNLP 2013) made the Stanford Sentiment "
    "Treebank."
)

CLASSES = ("negative", "positive")
LEAST_RATING = 0.5
"""Magnitude, on a scale of -4..4, that the people's mean rating of a sentence must exceed."""


def reviews() -> TextTask:
    """10,043 of the 10,605 sentences that come with the source distribution of ``vaderSentiment`` 3.3.2.

    Left out are those whose mean rating lies within ±0.5; the sign of the rating is the label.  Stratified
    80 : 10 : 10, seed 0.  The sentences are as they are in the source, with its LaTeX quotes.

    Raises
    ------
    PackageError, ArtifactError, InputError
        If the sentences cannot be fetched, are not those expected, or cannot be kept.
    """
    texts, labels = _parsed(fetch(SOURCE))
    whole = Texts(tuple(texts), np.array(labels, dtype=np.int64))
    train, validation, test = map(whole.take, stratified(whole.labels))
    return TextTask("reviews", CLASSES, train, validation, test, CITATION)


def _parsed(content: bytes) -> tuple[list[str], list[int]]:
    """Texts and labels of the lines ``id TAB rating TAB text``."""
    name = SOURCE.member
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"'{name}' is not UTF-8 at byte {error.start}") from error
    texts: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(lines, start=1):
        fields = line.removesuffix("\r").split("\t")
        rating = _rating(fields[1]) if len(fields) == 3 else math.nan
        if not abs(rating) <= 4 or not fields[2].strip():
            raise ArtifactError(f"'{name}', line {number}, is not id, rating in -4..4 and text")
        if abs(rating) > LEAST_RATING:
            texts.append(fields[2])
            labels.append(int(rating > 0))
    return texts, labels


def _rating(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return math.nan
