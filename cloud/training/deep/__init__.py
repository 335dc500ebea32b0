"""The trainer that runs on PyTorch; nothing outside this folder imports it."""
