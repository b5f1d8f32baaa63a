import pytest
import torch
from transformers.models.bert import BertConfig, BertForMaskedLM

from oddlog.nn.bert import BERT, Sizes
from oddlog.nn.device import seed_torch

SIZES = Sizes(n_tokens=11, places=16, layers=2, heads=2, width=8, inner=24)
TOKENS = torch.tensor([[3, 5, 7, 2, 9], [3, 6, 6, 0, 0]])
FILLED = TOKENS != 0


def theirs(sizes):
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=sizes.n_tokens,
            hidden_size=sizes.width,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.inner,
            hidden_dropout_prob=sizes.dropout,
            attention_probs_dropout_prob=sizes.attention_dropout,
            max_position_embeddings=sizes.places,
            type_vocab_size=1,
            pad_token_id=sizes.padding,
            tie_word_embeddings=sizes.tied,
        )
    )
    model.cls.predictions.decoder.bias = model.cls.predictions.bias  # as it is with tied weights
    return model.eval()


def both(**changes):
    """Return our network and that of transformers, made of one seed and moved away from it."""
    sizes = Sizes(**{**vars(SIZES), **changes})
    pair = []
    for make in (BERT, theirs):
        seed_torch(4)
        network = make(sizes).eval()
        torch.manual_seed(5)
        with torch.no_grad():
            for value in network.parameters():
                value.add_(0.3 * torch.randn(value.shape))
        pair.append(network)
    return pair


@pytest.mark.parametrize("tied", [True, False])
def test_a_seed_draws_the_weights_that_transformers_draws(tied):
    sizes = Sizes(**{**vars(SIZES), "tied": tied})
    seed_torch(4)
    ours = dict(BERT(sizes).named_parameters())
    seed_torch(4)
    wanted = dict(theirs(sizes).named_parameters())
    assert list(ours) == list(wanted)
    assert [name for name, value in ours.items() if not torch.equal(value, wanted[name])] == []


@pytest.mark.parametrize("tied", [True, False])
def test_its_vectors_and_logits_are_those_of_transformers(tied):
    ours, wanted = both(tied=tied)
    with torch.inference_mode():
        hidden = ours(TOKENS, FILLED)
        outputs = wanted.bert(input_ids=TOKENS, attention_mask=FILLED.long()).last_hidden_state
        assert torch.allclose(hidden[FILLED], outputs[FILLED], atol=1e-5)
        assert torch.allclose(ours.logits(hidden)[FILLED], wanted.cls(outputs)[FILLED], atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_training_steps_are_those_of_transformers(share):
    ours, wanted = both(dropout=0.2, attention_dropout=share)
    gradients = []
    for network in (ours, wanted):
        network.train()
        torch.manual_seed(6)
        if network is ours:
            logits = ours.logits(ours(TOKENS))
        else:
            logits = wanted.cls(wanted.bert(input_ids=TOKENS).last_hidden_state)
        (logits**2 * torch.arange(11)).mean().backward()
        gradients.append(torch.cat([value.grad.flatten() for value in network.parameters()]))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)


def test_what_only_fills_changes_nothing():
    network = both()[0]
    with torch.inference_mode():
        padded = network(TOKENS[1:], FILLED[1:])[:, :3]
        assert torch.allclose(padded, network(TOKENS[1:, :3]), atol=1e-6)


def test_the_embedding_of_what_fills_is_nought_and_does_not_learn():
    network = BERT(Sizes(**{**vars(SIZES), "tied": False}))
    (network(TOKENS) ** 2 * torch.arange(8)).sum().backward()
    words = network.bert.embeddings.word_embeddings.weight
    assert words[0].tolist() == [0.0] * 8
    assert words.grad.abs().sum(dim=1).gt(0).nonzero().flatten().tolist() == [2, 3, 5, 6, 7, 9]
