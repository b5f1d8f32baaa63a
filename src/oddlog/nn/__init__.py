"""The torch code that the neural detectors share: device, batches, ranks, the training loop."""
