"""DenseNet121 in plain PyTorch, channels first, with torchvision's module names: the network that captum explains."""

from collections import OrderedDict

import torch
from torch import nn

BLOCKS, GROWTH, FIRST = (6, 12, 24, 16), 32, 64
EPSILON = 1.001e-5  # of keras.applications; torchvision uses 1e-5
HEAD_EPSILON = 1e-3
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DenseLayer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(channels, EPSILON), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, 4 * GROWTH, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(4 * GROWTH, EPSILON), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, parts):
        x = self.conv1(self.relu1(self.norm1(torch.cat(parts, 1))))
        return self.conv2(self.relu2(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    def __init__(self, count, channels):
        super().__init__({f"denselayer{i + 1}": DenseLayer(channels + GROWTH * i) for i in range(count)})

    def forward(self, x):
        parts = [x]
        for layer in self.values():
            parts.append(layer(parts))
        return torch.cat(parts, 1)


def make_transition(channels):
    parts = OrderedDict(norm=nn.BatchNorm2d(channels, EPSILON), relu=nn.ReLU(inplace=True))
    parts["conv"] = nn.Conv2d(channels, channels // 2, 1, bias=False)
    parts["pool"] = nn.AvgPool2d(2, 2)
    return nn.Sequential(parts)


def make_features():
    """Builds the layers from an RGB film in ImageNet's scale `(n, 3, h, w)` to a map `(n, 1024, h / 32, w / 32)`."""
    parts = OrderedDict(conv0=nn.Conv2d(3, FIRST, 7, stride=2, padding=3, bias=False))
    parts["norm0"], parts["relu0"] = nn.BatchNorm2d(FIRST, EPSILON), nn.ReLU(inplace=True)
    parts["pool0"] = nn.MaxPool2d(3, stride=2, padding=1)
    channels = FIRST
    for number, count in enumerate(BLOCKS, start=1):
        parts[f"denseblock{number}"] = DenseBlock(count, channels)
        channels += GROWTH * count
        if number < len(BLOCKS):
            parts[f"transition{number}"] = make_transition(channels)
            channels //= 2
    parts["norm5"], parts["relu5"] = nn.BatchNorm2d(channels, EPSILON), nn.ReLU(inplace=True)
    return nn.Sequential(parts)


class FilmScore(nn.Module):
    """The image side of kmm's `paper` preset: gray film `(n, 1, h, w)`, 0 to 255 -> logits `(n, 1)`."""

    def __init__(self, units=512):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1) * 255)
        self.features = make_features()
        self.head = nn.Sequential(
            nn.BatchNorm1d(1024, HEAD_EPSILON),
            nn.Linear(1024, units),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(units, HEAD_EPSILON),
            nn.Linear(units, 1),
        )

    def forward(self, film):
        x = self.features((film - self.mean) / self.deviation)
        return self.head(x.mean((2, 3)))


def make_network(films, seed=0):
    """Makes a network of random weights whose batch statistics are those of some films, so that activations keep scale.

    Args:
        films: float32 array `(n, h, w, 1)`.
        seed: int.

    Returns:
        `FilmScore` in evaluation mode.
    """
    torch.manual_seed(seed)
    network = FilmScore()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # averages over all batches
    with torch.no_grad():
        network.train()(torch.tensor(films).permute(0, 3, 1, 2))
    return network.eval()
