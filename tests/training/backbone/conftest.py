"""A transformer of three layers with a vocabulary of a few words, and sentences that it can learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from twophase.training.backbone.load import quiet
from twophase.training.data import Texts, TextTask

GOOD, BAD = ("good", "fine", "warm", "funny"), ("bad", "dull", "cold", "sad")
FILL = ("the", "a", "film", "plot", "is", "and", "very", "of", "it", "so")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_tokenizer() -> transformers.PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *FILL, *GOOD, *BAD))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.enable_padding(length=20)
    backend.enable_truncation(20)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def sentences(count: int, seed: int) -> Texts:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    texts = []
    for label in labels:
        told = generator.choice((BAD, GOOD)[label], generator.integers(2, 5))
        words = np.concatenate([told, generator.choice(FILL, generator.integers(1, 8))])
        texts.append(" ".join(generator.permutation(words)))
    return Texts(tuple(texts), labels.astype(np.int64))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights in the format of transformers."""
    folder = tmp_path_factory.mktemp("backbone")
    config = transformers.BertConfig(
        vocab_size=len((*SPECIAL, *FILL, *GOOD, *BAD)),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,  # else a random model of this size tells sentences hardly apart
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_task() -> TextTask:
    return TextTask("words", ("bad", "good"), sentences(96, 0), sentences(40, 1), sentences(40, 2))


@pytest.fixture(autouse=True)
def _own_cache_and_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOPHASE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
