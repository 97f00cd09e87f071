"""The three networks that LPIPS looks through, AlexNet, VGG-16 and SqueezeNet 1.1, up to the last activation that it takes.

Only layers: no weights come with them. The names of their tensors are those of torchvision's files (``features.N.weight``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import torch

#: Network -> after which of its layers an activation is taken, and how many channels it has there.
TAPS: dict[str, dict[int, int]] = {
    "alex": {1: 64, 4: 192, 7: 384, 9: 256, 11: 256},
    "vgg": {3: 64, 8: 128, 15: 256, 22: 512, 29: 512},
    "squeeze": {1: 64, 4: 128, 7: 256, 9: 384, 10: 384, 11: 512, 12: 512},
}
_VGG = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # 0: halve


def build(network: str) -> nn.Sequential:
    """The layers of ``alex``, ``vgg`` or ``squeeze``, with random weights."""
    return {"alex": _alex, "vgg": _vgg, "squeeze": _squeeze}[network]()


def activations(layers: nn.Sequential, network: str, x: torch.Tensor) -> list[torch.Tensor]:
    """What comes out of each tapped layer, (B, channels, h, w), for pictures that were already shifted and scaled."""
    found = []
    for number, layer in enumerate(layers):
        x = layer(x)
        if number in TAPS[network]:
            found.append(x)
    return found


class Fire(nn.Module):
    """SqueezeNet's block: a 1 x 1 convolution to few channels, then 1 x 1 and 3 x 3 ones side by side."""

    def __init__(self, given: int, few: int, each: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(given, few, 1)
        self.expand1x1 = nn.Conv2d(few, each, 1)
        self.expand3x3 = nn.Conv2d(few, each, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, given, h, w) to (B, 2 * each, h, w)."""
        import torch

        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], dim=1)


# No activation works in place: the one before it is taken.
def _alex() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


def _vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for wanted in _VGG:
        if wanted:
            layers += [nn.Conv2d(channels, wanted, 3, padding=1), nn.ReLU()]
            channels = wanted
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def _squeeze() -> nn.Sequential:
    def halve() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), halve(),
        Fire(64, 16, 64), Fire(128, 16, 64), halve(),
        Fire(128, 32, 128), Fire(256, 32, 128), halve(),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
    )  # fmt: skip
