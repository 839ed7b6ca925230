"""From a task of sentences to one of features, and what the bundle must hold of the sentences."""

from __future__ import annotations

from twophase.link.front import Front
from twophase.link.text_arrays import pack_texts
from twophase.training.backbone.baselines import huffman_lengths, tfidf_decisions
from twophase.training.backbone.features import Prepared
from twophase.training.backbone.settings import TuneSettings
from twophase.training.config import TrainConfig
from twophase.training.data import TextTask
from twophase.training.programs import Sentences

__all__ = ["sentences_of", "tune_settings"]


def tune_settings(config: TrainConfig) -> TuneSettings:
    """What the tuning of the backbone is told."""
    return TuneSettings(
        backbone=config.backbone,
        tune_layers=config.tune_layers,
        epochs=config.tune_epochs,
        learning_rate=config.tune_learning_rate,
        batch_size=config.tune_batch_size,
        max_length=config.max_length,
        mixed_precision=config.mixed_precision,
        seed=config.seed,
        device=config.device,
    )


def sentences_of(config: TrainConfig, data: TextTask, prepared: Prepared) -> Sentences:
    """What the exporter needs ahead of the link; the baselines are fitted on the training sentences."""
    text, ends = pack_texts(data.test.texts)
    return Sentences(
        front=Front(prepared.record["backbone"], config.max_length),
        backbone=prepared.backbone,
        tokenizer_json=prepared.tokenizer_json,
        test_arrays={
            "input_ids": prepared.input_ids,
            "attention_mask": prepared.attention_mask,
            "text": text,
            "text_ends": ends,
            "without_link": prepared.without_link,
            "tfidf": tfidf_decisions(data),
            "huffman_lengths": huffman_lengths(data.train.texts),
        },
    )
