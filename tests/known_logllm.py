"""A BERT and a Llama of a few thousand random weights, as folders, for the tests of LogLLM.

Nothing is imported before they are written: their paths are settings of other tests.
"""

import os
import tempfile
from pathlib import Path

FOLDER = Path(tempfile.gettempdir()) / f"oddlog-tiny-models-{os.getpid()}"
BERT, LLAMA = str(FOLDER / "bert"), str(FOLDER / "llama")
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
TEXT = """session opened request received read block sent transfer finished checksum verified cache
refreshed closed exception while writing node unreachable , giving up event unknown < * > ? . :
Below is a sequence of system log messages Is this normal or anomalous The disk full network down
A B C failed"""
SETTINGS = {
    "preset": "small",
    "bert": BERT,
    "llama": LLAMA,
    "layers": 1,
    "micro_batch": 16,
    "least_sequences": 160,
    "weigh": "distinct",
    "lora_llama": {"rank": 8, "alpha": 32, "dropout": 0.0},
    "gamma": 1.0,
    "answer": {"learning_rate": 0.001, "epochs": 1},
    "projector": {"learning_rate": 0.02, "epochs": 1},
    "embedder": {"learning_rate": 0.01, "epochs": 1},
    "joint": {"learning_rate": 0.01, "epochs": 4},
}
"""Settings of the detector with which the pair learns in seconds."""


def write_tiny_models(folder: Path = FOLDER, seed: int = 0) -> None:
    """Write both models with their tokenizers."""
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    torch.manual_seed(seed)
    bert = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    llama = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    for name, network in (("bert", BertModel(bert)), ("llama", LlamaForCausalLM(llama))):
        network.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def _tokenizer():
    """Return one that knows the words of ``TEXT`` and small numbers."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = [str(number) for number in range(100)]
    vocabulary = {
        word: i for i, word in enumerate(dict.fromkeys([*MARKS, *TEXT.split(), *numbers]))
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", vocabulary["[CLS]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        eos_token="[SEP]",
    )
