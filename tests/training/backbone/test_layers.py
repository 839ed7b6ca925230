"""A transformer cut in two is the same transformer, and its features do not depend on the batch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from twophase.link.errors import InputError
from twophase.training.backbone.layers import Backbone, Pooled, bucketed, longest_first, split_backbone

SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
}
DISTIL = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 40}
MODELS = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SMALL)),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**SMALL)),
    "xlm-roberta": lambda: transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**SMALL)),
    "camembert": lambda: transformers.CamembertModel(transformers.CamembertConfig(**SMALL)),
    "electra": lambda: transformers.ElectraModel(transformers.ElectraConfig(**SMALL, embedding_size=8)),
    "mpnet": lambda: transformers.MPNetModel(transformers.MPNetConfig(**SMALL)),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(vocab_size=40, **DISTIL)
    ),
}


def model_of(family: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[family]()
    model.pooler = None
    model.set_attn_implementation("eager")
    return model.eval()


def some_tokens() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 40, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    ids[1, 5:], mask[1, 5:] = 1, 0
    return ids, mask


@pytest.mark.parametrize("family", MODELS)
def test_upper_after_lower_is_the_whole_and_only_the_tuned_layers_take_gradients(family: str) -> None:
    model, (ids, mask) = model_of(family), some_tokens()
    kept = mask.bool()
    with torch.inference_mode():
        whole = model(input_ids=ids, attention_mask=mask).last_hidden_state
        for tuned in range(4):
            parts = split_backbone(model, tuned)
            assert parts.lower is not None
            assert parts.lower_layers == 3 - tuned
            found = parts.upper(parts.lower(ids, mask), mask)
            torch.testing.assert_close(found[kept], whole[kept], atol=1e-6, rtol=0)
        assert torch.equal(split_backbone(model, -1).upper(ids, mask), whole)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for weight in split_backbone(model, 1).upper.parameters():
            if weight.requires_grad:
                weight.add_(1.0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if ".layer.2." in name}, "they are the model's own"


def test_other_families_and_more_layers_than_there_are_are_refused() -> None:
    small = transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)
    for model, layers, name, rule in (
        (transformers.GPT2Model(small), 1, "backbone", "be of a family"),
        (model_of("bert"), 4, "tune_layers", "be at most 3"),
    ):
        with pytest.raises(InputError) as caught:
            split_backbone(model, layers)
        assert caught.value.name == name
        assert rule in caught.value.rule


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_features_depend_neither_on_batch_nor_on_padding(family: str) -> None:
    backbone, (ids, mask) = Backbone(model_of(family), Pooled(16)).eval(), some_tokens()
    with torch.inference_mode():
        together = backbone(ids, mask)
        for row, length in enumerate((9, 5, 9)):
            alone = backbone(ids[row : row + 1, :length], mask[row : row + 1, :length])
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)


def test_standardised_features_have_mean_zero_and_deviation_one() -> None:
    means = torch.randn(50, 16, generator=torch.Generator().manual_seed(0)) * 3 + 7
    means[:, 4] = 2.5
    pooled = Pooled(16)
    pooled.fit(means)
    features = pooled.standardise(means)
    varying = [column for column in range(16) if column != 4]
    torch.testing.assert_close(features.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(features[:, varying].std(0, correction=0), torch.ones(15))
    assert features[:, 4].abs().max() < 1e-3
    states = means[:, None].expand(-1, 2, -1)
    assert torch.equal(pooled(states, torch.tensor([[1, 0]]).expand(50, -1)), features)


def test_batches_hold_every_text_once_and_alike_lengths() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 60, 500)
    members = generator.permutation(500)[:403].astype(np.int64)
    batches = bucketed(lengths, members, 8, np.random.default_rng(1))
    assert [len(batch) for batch in batches] == [8] * 50
    assert len(set(np.concatenate(batches).tolist())) == 400
    padded = sum(8 * lengths[batch].max() for batch in batches)
    assert padded < 1.3 * lengths[np.concatenate(batches)].sum()
    sorted_batches = list(longest_first(lengths, members, 100))
    assert sorted(np.concatenate(sorted_batches)) == sorted(members)
    assert all(len(batch) * lengths[batch].max() <= 100 for batch in sorted_batches)
