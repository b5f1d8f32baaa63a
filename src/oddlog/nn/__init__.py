"""What the neural detectors share: strings of tokens, batches, ranks, the training loop, device."""
