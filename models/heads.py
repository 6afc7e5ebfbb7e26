"""The classification head that all methods end in."""

import torch
from torch import Tensor, nn


class ClassificationHead(nn.Module):
    """Three linear layers with tanh between them, dropout before each tanh.

    The published head also drops logits, which makes a class's score 0 at random in every training step; this one
    does not. In eval mode the two are the same.
    """

    def __init__(self, in_size: int, hidden_size: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(in_size, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)
        self.fc3 = nn.Linear(hidden_size, num_classes)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map embeddings [B, in_size] to logits [B, num_classes]."""
        hidden = torch.tanh(self.dropout(self.fc1(embedding)))
        hidden = torch.tanh(self.dropout(self.fc2(hidden)))
        logits: Tensor = self.fc3(hidden)
        return logits
