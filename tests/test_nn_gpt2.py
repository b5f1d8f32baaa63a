import pytest
import torch
from transformers.models.gpt2 import GPT2Config, GPT2Model

from oddlog.nn.device import seed_torch
from oddlog.nn.gpt2 import ACTIVATIONS, GPT2, Past, Sizes

SIZES = Sizes(n_tokens=11, places=16, layers=2, heads=2, width=8, inner=24)
TOKENS = torch.tensor([[3, 5, 7, 2, 9], [3, 6, 6, 0, 0]])


def theirs(sizes):
    return GPT2Model(
        GPT2Config(
            vocab_size=sizes.n_tokens,
            n_positions=sizes.places,
            n_embd=sizes.width,
            n_layer=sizes.layers,
            n_head=sizes.heads,
            n_inner=sizes.inner,
            resid_pdrop=sizes.dropout,
            embd_pdrop=sizes.dropout,
            attn_pdrop=sizes.attention_dropout,
            activation_function=sizes.activation,
            layer_norm_epsilon=sizes.epsilon,
            scale_attn_weights=sizes.scaled,
            scale_attn_by_inverse_layer_idx=sizes.scaled_by_layer,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
        )
    ).eval()


def both(**changes):
    """Return our network and that of transformers, made of one seed and moved away from it."""
    sizes = Sizes(**{**vars(SIZES), **changes})
    pair = []
    for make in (GPT2, theirs):
        seed_torch(4)
        network = make(sizes).eval()
        torch.manual_seed(5)
        with torch.no_grad():
            for value in network.parameters():
                value.add_(0.3 * torch.randn(value.shape))
        pair.append(network)
    return pair


@pytest.fixture
def network():
    return both()[0]


def test_a_seed_draws_the_weights_that_transformers_draws():
    seed_torch(4)
    ours = dict(GPT2(SIZES).named_parameters())
    seed_torch(4)
    wanted = dict(theirs(SIZES).named_parameters())
    assert list(ours) == list(wanted)
    assert [name for name, value in ours.items() if not torch.equal(value, wanted[name])] == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scaled": False},
        {"scaled_by_layer": True},
        {"epsilon": 0.1},
        *({"activation": name} for name in sorted(ACTIVATIONS)),
    ],
    ids=str,
)
def test_its_vectors_are_those_of_transformers(changes):
    ours, wanted = both(**changes)
    with torch.inference_mode():
        found = ours(TOKENS), wanted(input_ids=TOKENS).last_hidden_state
    assert torch.allclose(*found, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_training_steps_are_those_of_transformers(share):
    gradients = []
    for network in both(dropout=0.2, attention_dropout=share):
        network.train()
        torch.manual_seed(6)
        found = network(TOKENS)
        found = found if isinstance(found, torch.Tensor) else found.last_hidden_state
        (found**2 * torch.arange(8)).mean().backward()
        gradients.append(torch.cat([value.grad.flatten() for value in network.parameters()]))
    assert torch.allclose(*gradients, atol=1e-6)


def test_what_comes_later_changes_nothing(network):
    other = TOKENS.clone()
    other[:, 3:] = 1
    with torch.inference_mode():
        assert torch.allclose(network(TOKENS)[:, :3], network(other)[:, :3], atol=1e-6)


@pytest.mark.parametrize("cuts", [[1], [2, 3], [1, 2, 3, 4]], ids=str)
def test_pieces_behind_their_past_give_what_the_whole_gives(network, cuts):
    past = Past()
    pieces = TOKENS.tensor_split(cuts, dim=1)
    with torch.inference_mode():
        found = torch.cat([network(piece, past) for piece in pieces], dim=1)
        assert torch.allclose(found, network(TOKENS), atol=1e-6)
    assert len(past) == 5
